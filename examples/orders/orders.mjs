import readline from "node:readline";
import { io } from "socket.io-client";

const [name, url = "http://127.0.0.1:7300"] = process.argv.slice(2);
const socket = io(url, { auth: { client: name } });
socket.on("connect", () => socket.emit("subscribe", "orders", ({ unread }) => console.log(`${unread} held for ${name}`)));
socket.on("created", (order) => console.log(`order: ${order.text}`));
readline.createInterface({ input: process.stdin }).on("line", (text) => socket.emit("publish", "orders", "created", { text }));
