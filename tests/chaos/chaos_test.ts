import { assert, assertEquals } from "@std/assert";
import { runChaos } from "./chaos.ts";

const CONNECTIONS = Deno.build.os === "windows" ? 600 : 4_000;

Deno.test("workers are killed at random, and no connection is lost before it was taken or answered twice", async () => {
  const seed = Number(Deno.env.get("CHAOS_SEED") ?? 20_261_121);
  const report = await runChaos({ connections: CONNECTIONS, seed, killEvery: CONNECTIONS / 5 });
  assertEquals([report.lost, report.wrong], [[], []], `seed ${seed}`);
  assertEquals(report.answered + report.diedWithWorker, CONNECTIONS);
  assert(report.kills > 0 && report.answered > CONNECTIONS / 2);
  const [before, after] = report.descriptors;
  assert(after <= before, `${before} descriptors before, ${after} after`);
});
