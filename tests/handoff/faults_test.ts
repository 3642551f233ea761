// Every fault at every step of a hand-off, between real processes. docs/failures.md keeps what comes out:
// `UPDATE_DOCS=1` writes it anew, `FAULT_SEED` chooses where frames are cut and which bytes are flipped.
import { assertEquals } from "@std/assert";
import { cellName, timeoutOf } from "../kit/faults/expectations.ts";
import { runCells } from "../kit/faults/lanes.ts";
import { exists, PAGE, parsePage, REGIONS, renderPage } from "../kit/faults/page.ts";
import { seedOf } from "../kit/faults/random.ts";
import { type Fault, type FaultPlan, FAULTS, type Region, STEPS } from "../kit/faults/steps.ts";

const seed = Number(Deno.env.get("FAULT_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
const update = Deno.env.get("UPDATE_DOCS") !== undefined;
const kept = await Deno.readTextFile(PAGE).catch(() => "");
const keptCells = parsePage(kept);
const found = new Map<string, string>();

function plansOf(fault: Fault, regions: readonly Region[]): FaultPlan[] {
  return regions.flatMap((region) =>
    STEPS.filter((step) => exists(step, fault, region)).map((step) => {
      const plan = { step: step.name, fault, region };
      return { ...plan, seed: seedOf(seed, cellName(plan)), timeout: timeoutOf(plan) };
    })
  );
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

Deno.test("without a fault the target has the socket, or the source if it was rejected or taken back", async () => {
  const plan = { fault: "none", region: "head", seed, timeout: 15_000 } as const;
  const steps = ["done-received", "end-received", "reject-received", "withdraw-received"];
  const results = await runCells(steps.map((step) => ({ ...plan, step })));
  assertEquals(results.map(({ text, failure }) => failure ?? text).toSorted(), [
    "committed → target",
    "committed → target",
    "rejected → source",
    "withdrawn → source",
  ]);
});

for (const fault of FAULTS) {
  Deno.test(`at every step of a hand-off: ${fault} (FAULT_SEED=${seed})`, () => check(plansOf(fault, ["head"])));
}

Deno.test(`in every frame: flip bytes of its sequence number, length and payload (FAULT_SEED=${seed})`, () => {
  return check(plansOf("flip bytes", REGIONS));
});

Deno.test("docs/failures.md is what the tests found", async () => {
  const page = renderPage(update ? new Map([...keptCells, ...found]) : found);
  if (update) await Deno.writeTextFile(PAGE, page);
  else if (found.size >= keptCells.size) assertEquals(kept.replaceAll("\r\n", "\n"), page);
});
