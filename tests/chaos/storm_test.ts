import { assert, assertEquals } from "@std/assert";
import { runStorm } from "./storm.ts";

const ON_WINDOWS = Deno.build.os === "windows";
const CONNECTIONS = ON_WINDOWS ? 500 : 3_000;
const BLOWS = ON_WINDOWS ? 8 : 16;
/** What the heap of a process may have grown by without anything being kept, in MiB. */
const NOISE_MIB = 48;

Deno.test("both sides are killed and stopped at random, and every connection has one owner", async () => {
  const seed = Number(Deno.env.get("CHAOS_SEED") ?? 20_261_129);
  const report = await runStorm({ connections: CONNECTIONS, seed, blows: BLOWS });
  const { lost, wrong, hung, answered, diedWithOwner } = report;
  assertEquals([lost, wrong, hung], [[], [], []], `seed ${seed}`);
  assertEquals(answered + diedWithOwner, CONNECTIONS);
  assert(answered > CONNECTIONS / 2, JSON.stringify(report));
  const [descriptorsBefore, descriptorsAfter] = report.descriptors;
  assert(descriptorsAfter <= descriptorsBefore, `${descriptorsBefore} descriptors before, ${descriptorsAfter} after`);
  const [memoryBefore, memoryAfter] = report.memory;
  assert(memoryAfter <= memoryBefore + NOISE_MIB, `${memoryBefore} MiB before, ${memoryAfter} MiB after`);
});

Deno.test("threads of a target, with two copies of the library, open what becomes theirs", async () => {
  const connections = ON_WINDOWS ? 300 : 1_000;
  const seed = Number(Deno.env.get("CHAOS_SEED") ?? 20_261_130);
  const report = await runStorm({ connections, seed, blows: 4, threads: 4 });
  const { lost, wrong, hung, processes, descriptors, memoryFiles } = report;
  assertEquals([lost, wrong, hung, processes], [[], [], [], []], `seed ${seed}`);
  assert(report.byThreads > 0, JSON.stringify(report));
  for (const [before, after] of [descriptors, memoryFiles]) assert(after <= before, JSON.stringify(report));
});
