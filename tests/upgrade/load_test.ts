import { assert, assertEquals } from "@std/assert";
import { runUpgrades, startVersions } from "./load.ts";

const UPGRADES = Deno.build.os === "windows" ? 2 : 5;

Deno.test("a server is replaced under load, and no request is refused, reset or cut short", async () => {
  await using server = await startVersions();
  const { before, during, after, problems, processes } = await runUpgrades(server, UPGRADES);
  assertEquals(problems, {});
  assertEquals(new Set(processes).size, UPGRADES);
  for (const phase of [before, during, after]) assert(phase.requests > 0);
});
