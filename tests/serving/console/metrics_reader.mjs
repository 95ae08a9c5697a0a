// Reads {metrics: path of metrics.js, texts: [before, now], asks: [[function, ...arguments]]} from stdin, prints answers.

import { readFileSync } from "node:fs";

const { metrics, texts, asks } = JSON.parse(readFileSync(0, "utf8"));
const source = readFileSync(metrics, "utf8");
const module = await import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);
const [before, now] = texts.map(module.parse);
const answers = asks.map(([name, ...rest]) => (name === "sum" ? module.sum(now, ...rest) : module[name](now, before, ...rest)));
const samples = [...now.values()].map(({ name, labels, value }) => [name, labels, String(value)]);
console.log(JSON.stringify({ samples, answers }));
