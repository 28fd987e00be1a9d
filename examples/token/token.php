<?php
// Prints a token for the person that a page is for, as the server checks it: HS256, with the secret that both know.
//
//	HOLDPOST_JWT_SECRET=... php token.php ann

function encode(string $data): string
{
    return rtrim(strtr(base64_encode($data), '+/', '-_'), '=');
}

$now = time();
$text = encode(json_encode(['alg' => 'HS256', 'typ' => 'JWT'])) . '.' . encode(json_encode(['sub' => $argv[1], 'iat' => $now, 'exp' => $now + 3600]));
echo $text . '.' . encode(hash_hmac('sha256', $text, getenv('HOLDPOST_JWT_SECRET'), true)), "\n";
