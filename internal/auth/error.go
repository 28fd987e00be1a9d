package auth

// Error says why somebody is refused. Code is one of
//
//	unauthorized    no token or key, or one that does not hold
//	token_expired   the token's time is up
//	token_used      it was for one time, and somebody was let in by it
//	too_many        so many identities are revoked, or one-time tokens remembered, as may be
//	revoked         the identity was turned out after the token was issued
//	forbidden       the permissions do not have it
//	unavailable     the issuer's keys can't be fetched
type Error struct {
	Code   string
	Detail string // for people; it holds nothing of a secret
}

func (e *Error) Error() string { return e.Detail }

func unauthorized(detail string) error { return &Error{Code: "unauthorized", Detail: detail} }
