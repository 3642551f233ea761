// Two copies of the library in one process, as with two versions of it: nothing is lost between them.
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { connect, duplicateSocket, HandoffSource, listen, openSocket, Socket } from "@winsock/handoff";
import { killProcess } from "../../handoff/spawn.ts";
import { connection, readText, writeText } from "../kit/connections.ts";
import { copyLibrary } from "../kit/copies.ts";
import { FFI_GRANT, RUN, within } from "../kit/process.ts";

const OWN = new URL("../../mod.ts", import.meta.url).href;
const CHILD = new URL("../children/copies.ts", import.meta.url).href;
const SENT = 6;

/** Hands connections to a process whose copies all receive; the copy that answered each of them, and what they printed. */
async function handToCopies(where: "one" | "threads", urls: string[]): Promise<{ answers: string[]; printed: string }> {
  const args = [...RUN, FFI_GRANT, "--allow-read", "--allow-import", CHILD, where, ...urls];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
  const output = child.output();
  const answers: string[] = [];
  try {
    const source = new HandoffSource(child);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    for (let count = 0; count < SENT; count++) {
      using client = (await connect({ port: listener.addr.port })).toConn();
      await within(20_000, source.send(await listener.accept()));
      const line = new Uint8Array(10);
      const length = await within(20_000, client.read(line));
      answers.push(new TextDecoder().decode(line.subarray(0, length ?? 0)).trim());
    }
    await source.close();
    const { stdout, stderr } = await within(20_000, output);
    return { answers, printed: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
  } finally {
    killProcess(child);
  }
}

Deno.test("of two copies of the library, one receives, and the other one is refused", async () => {
  await using copy = await copyLibrary();
  const { answers, printed } = await handToCopies("one", [OWN, copy.url]);
  assertEquals(answers, Array(SENT).fill(answers[0]));
  assertStringIncludes(printed, "Busy: Cannot receive sockets: another call of `receive` reads stdin already");
  assertStringIncludes(printed, `${answers[0]} end`);
});

Deno.test("of two threads, one receives everything, and nothing is lost", async () => {
  await using copy = await copyLibrary();
  const { answers, printed } = await handToCopies("threads", [OWN, copy.url]);
  assertEquals(answers, Array(SENT).fill(answers[0]));
  for (const name of ["0", "1"]) assertStringIncludes(printed, `${name} end`);
});

Deno.test("what one copy duplicates, another one opens", async () => {
  await using copy = await copyLibrary();
  const other = await import(copy.url) as typeof import("@winsock/handoff");
  using pair = await connection();
  using theirs = await other.openSocket(duplicateSocket(pair.server, Deno.pid));
  using ours = await openSocket(other.duplicateSocket(theirs, Deno.pid));
  assert(ours instanceof Socket && theirs instanceof other.Socket && !(theirs instanceof Socket));
  using conn = ours.toConn();
  using client = pair.client.toConn();
  await writeText(client, "through both");
  assertEquals(await within(20_000, readText(conn, 12)), "through both");
});

Deno.test("sources of two copies hand off at once, each its own sockets", async () => {
  await using copy = await copyLibrary();
  const other = await import(copy.url) as typeof import("@winsock/handoff");
  const libraries = [{ HandoffSource, listen, connect }, other];
  const script = new URL("../children/echo.ts", import.meta.url);
  const options = { denoFlags: ["--no-check", "--cached-only"] };
  const sources = await Promise.all(libraries.map((library) => library.HandoffSource.spawn(script, options)));
  try {
    await Promise.all(libraries.map(async (library, index) => {
      using listener = library.listen({ hostname: "127.0.0.1", port: 0 });
      for (let count = 0; count < SENT; count++) {
        using client = (await library.connect({ port: listener.addr.port })).toConn();
        const socket = await listener.accept();
        await assertRejects(() => sources[1 - index]!.send(socket), TypeError, "not an object of this copy");
        await within(20_000, sources[index]!.send(socket));
        await writeText(client, "echo");
        assertEquals(await within(20_000, readText(client, 4)), "echo");
      }
    }));
  } finally {
    await Promise.all(sources.map((source) => source.close()));
  }
});
