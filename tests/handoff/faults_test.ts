// Every fault at every step of a hand-off, between real processes. docs/failures.md keeps what comes out:
// `UPDATE_DOCS=1` writes it anew, `FAULTS=all` runs every cell, and not only a share that changes with each run;
// `FAULT_SEED` chooses these, where frames are cut and which bytes are flipped.
import { assertEquals } from "@std/assert";
import { timeoutOf } from "../kit/faults/expectations.ts";
import { runCells } from "../kit/faults/lanes.ts";
import { PAGE, parsePage, renderPage } from "../kit/faults/page.ts";
import { seedOf } from "../kit/faults/random.ts";
import {
  cellName,
  exists,
  type Fault,
  type FaultPlan,
  FRAME_FAULTS,
  LISTENER_STEPS,
  PROCESS_FAULTS,
  STEPS,
} from "../kit/faults/steps.ts";

const seed = Number(Deno.env.get("FAULT_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
const update = Deno.env.get("UPDATE_DOCS") !== undefined;
const all = update || Deno.env.get("FAULTS") === "all";
const ONE_OF = Deno.build.os === "windows" ? 4 : 2;
const kept = await Deno.readTextFile(PAGE).catch(() => "");
const keptCells = parsePage(kept);
const found = new Map<string, string>();

function plansOf(fault: Fault): FaultPlan[] {
  return [...STEPS, ...LISTENER_STEPS].filter((step) => exists(step, fault)).map(({ name }) => {
    const plan = { step: name, fault };
    return { ...plan, seed: seedOf(seed, cellName(plan)), timeout: timeoutOf(plan) };
  }).filter(({ seed }) => all || (seed >>> 4) % ONE_OF === 0);
}

/** Runs cells and holds them against the page; names every one that came out differently. */
async function check(plans: FaultPlan[]): Promise<void> {
  const wrong: string[] = [];
  for (const { plan, text, failure } of await runCells(plans)) {
    const name = cellName(plan);
    if (text !== undefined) found.set(name, text);
    const expected = keptCells.get(name);
    if (failure !== undefined) wrong.push(`${name}: ${failure}`);
    else if (!update && text !== expected) wrong.push(`${name}: ${text}, and docs/failures.md says ${expected}`);
  }
  if (wrong.length > 0) throw new Error(`FAULT_SEED=${seed}\n${wrong.join("\n")}`);
}

Deno.test("without a fault the target owns the socket, or the source if it was rejected or withdrawn", async () => {
  const steps = ["done-received", "end-received", "reject-received", "withdraw-received", "leave-received"];
  const results = await runCells(steps.map((step) => ({ step, fault: "none", seed, timeout: 15_000 })));
  assertEquals(results.map(({ text, failure }) => failure ?? text).toSorted(), [
    "handed off → target",
    "handed off → target",
    "rejected → source",
    "rejected → source",
    "withdrawn → source",
  ]);
});

Deno.test("without a fault a target accepts as it is told, and the source when the target does not", async () => {
  const steps = LISTENER_STEPS.filter(({ name }) => /received$/.test(name) || name === "counts-sent");
  const results = await runCells(steps.map(({ name: step }) => ({ step, fault: "none", seed, timeout: 15_000 })));
  assertEquals(
    new Map(results.map(({ plan, text, failure }) => [plan.step, failure ?? text])),
    new Map([
      ["listener-offer-received", "accepts → target"],
      ["listener-taken-received", "accepts → target"],
      ["accepting-received", "accepts → target"],
      ["counts-sent", "paused → source"],
      ["paused-received", "paused → source"],
      ["resumed-received", "resumed → target"],
      ["stopped-received", "stopped → source"],
    ]),
  );
});

for (const fault of PROCESS_FAULTS) {
  Deno.test(`at every step of a hand-off: ${fault} (FAULT_SEED=${seed})`, () => check(plansOf(fault)));
}

for (const fault of FRAME_FAULTS) {
  Deno.test(`in every frame: ${fault} (FAULT_SEED=${seed})`, () => check(plansOf(fault)));
}

Deno.test("docs/failures.md is what the tests found", async () => {
  const page = renderPage(update ? new Map([...keptCells, ...found]) : found);
  if (update) await Deno.writeTextFile(PAGE, page);
  else if (found.size >= keptCells.size) assertEquals(kept.replaceAll("\r\n", "\n"), page);
});
