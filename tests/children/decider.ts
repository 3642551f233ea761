// Decides slots against its parent: decider.ts MEANS DESCRIPTOR. Each line of its stdin is a JSON list of slots and the
// target's handles of them. It says that it waits, until it can decide the first; then it decides the others and answers
// with the list of those it was first to decide.
import type { TargetDecisions } from "../../ffi/decisions.ts";
import { TextLines } from "../kit/text_lines.ts";

const [means, descriptor] = Deno.args;
const decisions = await open();
console.log("ready");
for await (const line of Deno.stdin.readable.pipeThrough(new TextLines())) {
  const slots = (JSON.parse(line) as [slot: number, handle: string][])
    .map(([slot, handle]) => [slot, BigInt(handle)] as const);
  const [gate, ...others] = slots;
  console.log("waits");
  while (!decisions.decide(...gate!));
  const won = others.filter(([slot, handle]) => decisions.decide(slot, handle)).map(([slot]) => slot);
  console.log(JSON.stringify(won));
}

async function open(): Promise<TargetDecisions> {
  if (Deno.build.os === "windows") return new (await import("../../ffi/windows/decisions.ts")).TargetEvents(Deno.ppid);
  return (await import("../../ffi/unix/decisions.ts")).openDecisions(Number(means), BigInt(descriptor!));
}
