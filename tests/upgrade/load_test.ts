import { assert, assertEquals } from "@std/assert";
import { until } from "../kit/process.ts";
import { isRunning } from "../kit/process_state.ts";
import { runUpgrades, startVersions } from "./load.ts";

const UPGRADES = Deno.build.os === "windows" ? 2 : 5;

Deno.test("a server is replaced under load, and no request is refused, reset or cut short", async () => {
  await using server = await startVersions();
  const { before, during, after, problems, processes, descriptors } = await runUpgrades(server, UPGRADES);
  assertEquals(problems, {});
  assertEquals(new Set(processes).size, UPGRADES + 1);
  // The first version has no stdin, and no predecessor to speak to.
  assert(descriptors[1] <= descriptors[0] + 8, `${descriptors[0]} descriptors before, ${descriptors[1]} after`);
  if (Deno.build.os !== "windows") {
    const old = processes.slice(0, -1);
    await until(() => old.every((pid) => !isRunning(pid)), "the old versions have ended");
  }
  for (const phase of [before, during, after]) assert(phase.requests > 0);
});
