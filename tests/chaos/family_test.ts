import { Family } from "../kit/faults/family.ts";
import { lines, spawnChild, within } from "../kit/process.ts";

const ROUNDS = 3;

Deno.test("a process that is killed while it starts others leaves nobody behind that has its output", async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const child = spawnChild("always_spawning.ts", [], ["--allow-run"]);
    const family = new Family(child.pid);
    const line = lines(child);
    await line();
    await new Promise((resolve) => setTimeout(resolve, 100 + 50 * round));
    family.kill();
    await child.status;
    await within(10_000, line().then(() => {}), () => `nobody has the output of process ${child.pid} any more`);
    await child.stdin.abort().catch(() => {});
  }
});
