// What a program is given that a source, a pool or an upgrade starts: its arguments, its directory and its environment.
import { assertEquals, assertRejects } from "@std/assert";
import { type HandoffError, HandoffSource, inherit, upgrade, UpgradeError, WorkerPool } from "@winsock/handoff";
import { connection } from "../kit/connections.ts";
import { STYLE, until, within } from "../kit/process.ts";

const SCRIPT = new URL("../children/where.ts", import.meta.url);
const DENO_FLAGS = ["--no-check", "--cached-only", "--allow-read", "--allow-env", ...STYLE];

/** Runs a test with the options of a program, and what the program then says. */
async function withFolder(
  as: "target" | "version",
  test: (options: object, expected: { args: string[]; cwd: string; greeting: string }) => Promise<void>,
): Promise<void> {
  const cwd = await Deno.realPath(await Deno.makeTempDir());
  try {
    const greeting = "Grüß Gott";
    const args = ["a b", 'c"d'];
    const options = { args: [as, ...args], cwd, env: { GREETING: greeting }, denoFlags: DENO_FLAGS };
    await test(options, { args, cwd, greeting });
  } finally {
    // On Windows it is in use until the program's process has ended.
    await until(() => Deno.remove(cwd).then(() => true, () => false), "the folder can be removed");
  }
}

Deno.test("a target has the arguments, the directory and the environment that it was started with", async () => {
  await withFolder("target", async (options, expected) => {
    await using source = await HandoffSource.spawn(SCRIPT, options);
    for await (const { data } of source.messages) {
      assertEquals(data, expected);
      break;
    }
  });
});

Deno.test("a worker has the arguments, the directory and the environment that its pool was made with", async () => {
  await withFolder("target", async (options, expected) => {
    await using pool = new WorkerPool({ script: SCRIPT, size: 1, ...options });
    const said = Promise.withResolvers<unknown>();
    pool.addEventListener("workermessage", ({ data }) => said.resolve(data));
    assertEquals(await within(20_000, said.promise), expected);
  });
});

Deno.test("a version has the arguments, the directory and the environment that it was started with", async () => {
  await withFolder("version", async (options, expected) => {
    using version = await inherit({ predecessor: 0 });
    await version.markReady();
    const error = await assertRejects(() => upgrade(version, { script: SCRIPT, ...options }), UpgradeError);
    assertEquals([error.outcome, JSON.parse(error.reason)], ["refused", expected]);
  });
});

Deno.test("a target that is silent for long is kept if its source is told to, and says what it closes", async () => {
  let released = 0;
  await using source = await HandoffSource.spawn(SCRIPT, {
    args: ["target"],
    denoFlags: DENO_FLAGS,
    endIfSilent: false,
    onRelease: () => released++,
    sendTimeout: 1_000,
  });
  await within(20_000, source.ready);
  const send = async () => {
    using pair = await connection();
    return await source.send(pair.server).then(() => "taken", ({ outcome }: HandoffError) => outcome);
  };
  await source.postMessage(5_000);
  let taken = 0;
  let outcome: string;
  while ((outcome = await send()) === "taken") taken++;
  assertEquals(outcome, "timeout");
  // After another second it would have been ended.
  await until(async () => await send() === "taken", "it takes a socket again");
  await until(() => released === taken + 1, "it has closed what it took");
});
