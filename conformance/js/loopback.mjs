// For --import: every name is this machine's, as a resolver of its own would have it.

import dns from "node:dns";

const { lookup } = dns;
dns.lookup = (name, ...rest) => lookup("127.0.0.1", ...rest);
