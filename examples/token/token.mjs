// Prints a token for the person that a page is for, as the server checks it: HS256, with the secret that both know.
//
//	HOLDPOST_JWT_SECRET=... node token.mjs ann
import { createHmac } from "node:crypto";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = Math.floor(Date.now() / 1000);
const text = part({ alg: "HS256", typ: "JWT" }) + "." + part({ sub: process.argv[2], iat: now, exp: now + 3600 });
const signature = createHmac("sha256", process.env.HOLDPOST_JWT_SECRET).update(text).digest("base64url");
console.log(`${text}.${signature}`);
