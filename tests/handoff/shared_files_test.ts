// Files and pipes that go from version to version: an open log, a lock, a pipe.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  HandoffSource,
  inherit,
  INVALID_SOCKET,
  type ServerVersion,
  type SharedFile,
  upgrade,
  UpgradeError,
  type UpgradeOptions,
  WinsockError,
} from "@winsock/handoff";
import { duplicateFrom, setBlocking } from "../../ffi/unix/descriptors.ts";
import { connection } from "../kit/connections.ts";
import { countDescriptors, openStreams, settledDescriptors } from "../kit/descriptors.ts";
import { fakeChild } from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { makePipe } from "../kit/pipes.ts";
import { FFI_GRANT, until, within } from "../kit/process.ts";

const WINDOWS = Deno.build.os === "windows";
const script = new URL("../children/filing_version.ts", import.meta.url);
const encode = (text: string) => new TextEncoder().encode(text);

/** How many descriptors are open; on Windows without those of threads, which come and go. */
function count(): number {
  return WINDOWS ? openStreams(Deno.pid).length : countDescriptors();
}

async function readText(file: SharedFile): Promise<string | null> {
  const buffer = new Uint8Array(1_000);
  const count = await within(10_000, file.read(buffer));
  return count === null ? null : new TextDecoder().decode(buffer.subarray(0, count));
}

/** A first version, which can be a supervisor, in a directory of its own. */
async function withVersion(test: (version: ServerVersion, directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  const version = await inherit({ predecessor: 0 });
  try {
    await test(version, directory);
  } finally {
    version[Symbol.dispose]();
    await Deno.remove(directory, { recursive: true });
  }
}

const next = (mode: string): UpgradeOptions => ({
  script,
  args: [mode],
  denoFlags: ["--no-check", "--cached-only", FFI_GRANT, "--allow-env=WINSOCK_HANDOFF_PREDECESSOR"],
  supervise: true,
  probation: 100,
  timeout: 20_000,
});

async function isLocked(path: string): Promise<boolean> {
  using other = await inherit({ predecessor: 0 });
  try {
    await other.openFile("lock", path, { write: true, lock: true });
    return false;
  } catch (error) {
    assert(error instanceof Deno.errors.WouldBlock, String(error));
    return true;
  }
}

Deno.test("a file is read, written and appended to, and its streams close it", async () => {
  await withVersion(async (version, directory) => {
    const path = `${directory}/file`;
    await assertRejects(() => version.openFile("a", path), Deno.errors.NotFound);
    const file = await version.openFile("a", path, { write: true, create: true });
    await Promise.all(Array.from({ length: 50 }, (_, index) => file.write(encode(`${index} `))));
    const expected = Array.from({ length: 50 }, (_, index) => `${index} `).join("");
    assertEquals(await Deno.readTextFile(path), expected, "calls are made one after the other");
    const log = await version.openFile("b", new URL(`file://${WINDOWS ? "/" : ""}${path}`), { append: true });
    const again = await version.openFile("c", path, { append: true, read: true });
    await log.write(encode("one"));
    await again.write(encode("two"));
    await log.write(encode("three"));
    assertEquals(await readText(again), "three", "its position is after what it wrote");
    const reading = await version.openFile("d", path);
    assertEquals(await new Response(reading.readable).text(), `${expected}onetwothree`);
    assertEquals(reading.handle, INVALID_SOCKET);
    const writer = log.writable.getWriter();
    await writer.write(encode("four"));
    await writer.close();
    assert((await Deno.readTextFile(path)).endsWith("threefour"));
    await assertRejects(() => log.write(encode("x")), Deno.errors.BadResource);
    await assertRejects(() => file.read(new Uint8Array(1)), WinsockError, "Cannot read file");
  });
});

Deno.test("a name is that of one open file, and free when that was closed", async () => {
  await withVersion(async (version, directory) => {
    const open = () => version.openFile("log", `${directory}/log`, { append: true, create: true });
    const before = count();
    const [one, other] = await Promise.allSettled([open(), open()]);
    assertEquals([one!.status, other!.status].sort(), ["fulfilled", "rejected"]);
    await assertRejects(open, TypeError, 'Cannot take file "log": it was taken already');
    assertEquals([version.fileNames, version.takeFile("log")], [[], undefined]);
    (one!.status === "fulfilled" ? one! : other as PromiseFulfilledResult<SharedFile>).value.close();
    const again = await open();
    again.close();
    again.close();
    await until(() => count() <= before, "nothing is left open");
  });
});

Deno.test("what is passed is checked", async () => {
  await withVersion(async (version, directory) => {
    const path = `${directory}/file`;
    const wrong: [unknown[], string][] = [
      [[1, path], "Invalid `name`"],
      [["a", ""], "Invalid `path`"],
      [["a", path, { lock: 1 }], "Invalid `lock`"],
      [["a", path, { append: "x" }], "Invalid `append`"],
    ];
    for (const [args, message] of wrong) {
      await assertRejects(() => version.openFile(...args as [string, string]), TypeError, message);
    }
    await assertRejects(
      () => version.openFile("a", path, { write: true, mode: 2 ** 20 }),
      RangeError,
      "Invalid `mode`",
    );
    await assertRejects(() => version.addFile("a", 5 as unknown as bigint), RangeError, "Invalid `handle`");
    await assertRejects(() => version.addFile("a", 0x7fff_fff0n), WinsockError);
    assertThrows(() => version.takeFile(1 as unknown as string), TypeError);
    const file = await version.openFile("a", path, { write: true, create: true });
    await assertRejects(() => file.write("x" as unknown as Uint8Array<ArrayBuffer>), TypeError, "Invalid `p`");
  });
});

Deno.test("closing ends a read that waits for a pipe, and a write that waits for room in it", async () => {
  await withVersion(async (version) => {
    const before = count();
    const [readable, writable] = makePipe();
    const [input, output] = [await version.addFile("in", readable), await version.addFile("out", writable)];
    await output.write(encode("x"));
    assertEquals(await readText(input), "x");
    const reading = assertRejects(() => input.read(new Uint8Array(1)), Deno.errors.Interrupted);
    await new Promise((resolve) => setTimeout(resolve, 50));
    input.close();
    await within(5_000, reading);
    await until(() => output.write(encode("y")).then(() => false, () => true), "nothing reads the pipe any more");
    output.close();
    if (!WINDOWS) {
      const [unread, full] = makePipe();
      using _unread = await version.addFile("in", unread);
      const filling = await version.addFile("out", full);
      const written = (async () => {
        for (;;) await filling.write(new Uint8Array(65_536));
      })();
      const ended = assertRejects(() => written, Deno.errors.Interrupted);
      await new Promise((resolve) => setTimeout(resolve, 100));
      filling.close();
      await within(5_000, ended);
    }
    await until(() => count() <= before + 4, "nothing is left open");
  });
});

Deno.test("a pipe with several readers blocks none of them when another one has read what came", {
  ignore: WINDOWS,
}, async () => {
  await withVersion(async (version) => {
    const [readable, writable] = makePipe();
    const output = await version.addFile("out", writable);
    // As the versions of a server have it during an upgrade. A pipe that a shell makes is blocking.
    const second = duplicateFrom(readable, 3);
    setBlocking(readable);
    const inputs = [await version.addFile("in", readable), await version.addFile("too", second)];
    let turns = 0;
    const ticking = setInterval(() => turns++, 5);
    const reading = inputs.map((input) => readText(input));
    for (const text of ["first", "second"]) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const before = turns;
      await output.write(encode(text));
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert(turns > before, "the event loop goes on");
    }
    assertEquals(new Set(await within(5_000, Promise.all(reading))), new Set(["first", "second"]));
    clearInterval(ticking);
    for (const file of [...inputs, output]) file.close();
  });
});

Deno.test("the end of a pipe is read when its writer is closed", async () => {
  await withVersion(async (version) => {
    const [readable, writable] = makePipe();
    const [input, output] = [await version.addFile("in", readable), await version.addFile("out", writable)];
    await output.write(encode("last"));
    output.close();
    assertEquals([await readText(input), await readText(input)], ["last", null]);
  });
});

Deno.test("a log, a lock and both ends of a pipe go to each next version, with the position in the file", async () => {
  await withVersion(async (version, directory) => {
    const [path, lockPath] = [`${directory}/log`, `${directory}/lock`];
    const log = await version.openFile("log", path, { write: true, read: true, create: true });
    await version.openFile("lock", lockPath, { write: true, create: true, lock: true });
    const pipes = [makePipe(), makePipe()] as const;
    await version.addFile("in", pipes[0][0]);
    await version.addFile("out", pipes[1][1]);
    using question = await version.addFile("question", pipes[0][1]);
    using answer = await version.addFile("answer", pipes[1][0]);
    await log.write(encode("first\n"));
    let expected = "first\n";
    for (const count of [1, 2, 3]) {
      await question.write(encode(`question ${count}`));
      const serving = await upgrade(version, next("well"));
      assertEquals(await readText(answer), `answer to question ${count}`);
      const names = ["log", "lock", "in", "out", "question", "answer"];
      const said = JSON.stringify({ names, opened: ["NotCapable", "NotCapable"], read: `question ${count}` });
      assertEquals(await isLocked(lockPath), true);
      await within(10_000, serving.retire());
      // This process goes on writing where the other one has stopped.
      await log.write(encode("supervisor\n"));
      expected += `${said}\nretired\nsupervisor\n`;
      assertEquals(await Deno.readTextFile(path), expected);
    }
  });
});

Deno.test("the lock stays with the version that has it when its predecessor has closed the file", async () => {
  await withVersion(async (version, directory) => {
    const path = `${directory}/lock`;
    const lock = await version.openFile("lock", path, { write: true, create: true, lock: true });
    assertEquals(await isLocked(path), true);
    const log = await version.openFile("log", `${directory}/log`, { append: true, create: true });
    for (const mode of ["well", "leave it"]) {
      const serving = await upgrade(version, next(mode));
      if (mode === "leave it") lock.close();
      // What a version does not take is closed when it is ready.
      assertEquals(await isLocked(path), mode === "well");
      await within(10_000, serving.retire());
    }
    log.close();
    const again = await version.openFile("lock", path, { write: true, lock: true });
    const serving = await upgrade(version, next("well"));
    again.close();
    assertEquals(await isLocked(path), true, "the next version has it");
    await within(10_000, serving.retire());
    await until(async () => !await isLocked(path), "the lock is free");
  });
});

for (const [mode, outcome] of [["crash", "crashed"], ["refuse", "refused"], ["hang", "timeout"]] as const) {
  Deno.test(`an upgrade that fails leaves files where they were, and nothing else open: ${mode}`, async () => {
    await withVersion(async (version, directory) => {
      const path = `${directory}/lock`;
      const lock = await version.openFile("lock", path, { write: true, create: true, lock: true });
      const [readable, writable] = makePipe();
      await version.addFile("in", readable);
      const output = await version.addFile("out", writable);
      const attempt = async () => {
        const options = { ...next(mode), ...mode === "hang" ? { timeout: WINDOWS ? 4_000 : 1_500 } : {} };
        const error = await assertRejects(() => upgrade(version, options), UpgradeError);
        assertEquals(error.outcome, outcome);
      };
      await attempt();
      const [before] = await settledDescriptors(Deno.pid);
      for (let count = 0; count < 2; count++) await attempt();
      await until(() => countDescriptors() <= before! + 2, "no descriptor is left");
      assertEquals(await isLocked(path), true);
      await lock.write(encode("mine"));
      await output.write(encode("still"));
      assertEquals(await Deno.readTextFile(path).catch(() => "mine"), "mine");
      lock.close();
      assertEquals(await isLocked(path), false, "no process has it");
    });
  });
}

Deno.test("more files than fit into one message go along, and those that were closed do not", async () => {
  await withVersion(async (version, directory) => {
    const log = await version.openFile("log", `${directory}/log`, { append: true, create: true });
    const names = Array.from({ length: 300 }, (_, index) => `file ${index}`);
    const files = await Promise.all(names.map((name) => version.openFile(name, `${directory}/log`)));
    files[7]!.close();
    const serving = await upgrade(version, next("well"));
    await within(10_000, serving.retire());
    log.close();
    const [line] = (await Deno.readTextFile(`${directory}/log`)).split("\n");
    assertEquals(JSON.parse(line!).names.sort(), [...names.toSpliced(7, 1), "log"].sort());
  });
});

Deno.test("files that are announced and do not arrive end the inheritance, and nothing stays open", {
  ...needs("the unix provider"),
}, async () => {
  const { child, input, exit } = fakeChild();
  const source = new HandoffSource(child, { sendTimeout: 5_000 });
  using pair = await connection();
  const files = [{ name: "log", number: 0 }];
  const failed = assertRejects(() => inherit({ predecessor: 1, input }), WinsockError, "Cannot receive files");
  await source.send(pair.server, { data: { upgrade: 1, listeners: [], connections: 0, files } });
  assertEquals((await within(10_000, failed)).codeName, "WSAEMFILE");
  assertEquals(await within(10_000, pair.client.read(1)), null);
  exit(0);
  await within(10_000, source.closed);
});
