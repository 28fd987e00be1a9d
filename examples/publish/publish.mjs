// Publishes each line of its input from a Node program that speaks no Socket.IO, over the HTTP API:
//
//	node publish.mjs orders http://127.0.0.1:7301 < lines        # HOLDPOST_API_KEY, if the server wants one
import { randomUUID } from "node:crypto";
import readline from "node:readline";
import { setTimeout as wait } from "node:timers/promises";

const [topic = "orders", server = "http://127.0.0.1:7301"] = process.argv.slice(2);
const headers = { "Content-Type": "application/json" };
if (process.env.HOLDPOST_API_KEY) headers.Authorization = `Bearer ${process.env.HOLDPOST_API_KEY}`;

// publish stores one event, and tries for a minute if need be. The id makes that safe: it is stored once.
async function publish(topic, event, ...args) {
	const body = JSON.stringify({ topic, event, args, id: randomUUID() });
	for (let attempt = 1; ; attempt++) {
		const answer = await fetch(`${server}/v1/publish`, { method: "POST", headers, body }).catch((error) => error);
		if (answer.ok) return answer.json();
		// Of errors that a second try does not mend the server says so by 4xx.
		if (answer.status < 500) throw new Error((await answer.json()).detail);
		if (attempt === 8) throw new Error(answer.statusText ?? answer.message);
		await wait(250 * 2 ** attempt * (0.5 + Math.random()));
	}
}

for await (const text of readline.createInterface({ input: process.stdin })) {
	const { offset } = await publish(topic, "created", { text });
	console.log(`stored at ${offset}: ${text}`);
}
