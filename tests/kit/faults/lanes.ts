/** Running many cells, a few at a time, in source processes that are used again where a fault leaves them alive. */
import { countStreams, runCell } from "./cell.ts";
import { cellOf } from "./expectations.ts";
import { SourceProcess } from "./source_process.ts";
import { runListenerCell } from "./listener_cell.ts";
import { type FaultPlan, findStep, isOfListener } from "./steps.ts";

/** Most of a cell is waiting; a start of Deno under Wine is not. */
const LANES = Deno.build.os === "windows" ? 4 : 8;

/** How a cell ended: in words, or what went wrong. */
export interface CellResult {
  readonly plan: FaultPlan;
  readonly text?: string;
  readonly failure?: string;
}

const WARM_UP: FaultPlan = { step: "done-received", fault: "none", seed: 0, timeout: 15_000 };

function endsSource({ fault }: FaultPlan): boolean {
  return fault === "kill source" || fault === "kill both";
}

export async function runCells(plans: readonly FaultPlan[]): Promise<CellResult[]> {
  const waiting = [...plans];
  const results: CellResult[] = [];
  const lane = async () => {
    let source: SourceProcess | undefined;
    for (let plan = waiting.shift(); plan !== undefined; plan = waiting.shift()) {
      try {
        const run = isOfListener(findStep(plan.step)) ? runListenerCell : runCell;
        source ??= await (endsSource(plan) ? SourceProcess.start() : startWarm());
        results.push({ plan, text: cellOf(plan, await run(source, plan)) });
        if (!endsSource(plan)) continue;
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        results.push({ plan, failure: `${reason}, after ${source?.events ?? "nothing"}` });
      }
      await source?.end();
      source = undefined;
    }
    await source?.end();
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return results;
}

/** A source that has handed off once: what it opens for its first hand-off it keeps for all. */
async function startWarm(): Promise<SourceProcess> {
  const source = await SourceProcess.start();
  const found = await runCell(source, WARM_UP);
  if (found !== "handed off → target") throw new Error(`Without a fault a hand-off ended with ${found}`);
  source.streams = countStreams(source.pid);
  return source;
}
