/**
 * Starts this Deno again and again with one module after the other, and prints how long each took, in milliseconds.
 *
 * @module
 */
const [rounds, ...modules] = Deno.args;
const times: Record<string, number[]> = Object.fromEntries(modules.map((module) => [module, []]));

// The first round fills the caches and does not count.
for (let round = 0; round <= Number(rounds); round++) {
  for (const module of modules) {
    const began = performance.now();
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", "--no-check", "--cached-only", new URL(module, import.meta.url).href],
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).output();
    if (!success) throw new Error(`${module} failed`);
    if (round > 0) times[module]!.push(performance.now() - began);
  }
}
console.log(JSON.stringify(times));
