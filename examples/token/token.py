"""Prints a token for the person that a page is for, as the server checks it: HS256, with the secret that both know.

	HOLDPOST_JWT_SECRET=... python3 token.py ann
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def part(value):
    return encode(json.dumps(value).encode())


now = int(time.time())
text = part({"alg": "HS256", "typ": "JWT"}) + b"." + part({"sub": sys.argv[1], "iat": now, "exp": now + 3600})
signature = hmac.new(os.environ["HOLDPOST_JWT_SECRET"].encode(), text, hashlib.sha256).digest()
print((text + b"." + encode(signature)).decode())
