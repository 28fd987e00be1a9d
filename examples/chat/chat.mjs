import readline from "node:readline";
import { io } from "socket.io-client";

const [name, url = "http://127.0.0.1:3000"] = process.argv.slice(2);
const socket = io(url);
socket.on("connect", () => console.log("connected"));
socket.on("say", ({ from, text }) => console.log(`${from}: ${text}`));
readline.createInterface({ input: process.stdin }).on("line", (text) => socket.emit("say", { from: name, text }));
