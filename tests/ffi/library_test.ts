import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { LIBRARY_PATHS, WinsockError } from "@winsock/handoff";
import { openLibrary } from "../../ffi/library.ts";
import { FFI_GRANT, RUN } from "../kit/process.ts";
import { unixError } from "../../ffi/unix/libc.ts";

/** Runs code in a process with the given grants; its output. */
async function run(code: string, ...grants: string[]): Promise<string> {
  const mod = new URL("../../mod.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...grants, "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`import * as handoff from ${JSON.stringify(mod)};\n${code}`));
  await writer.close();
  const { stdout, stderr } = await child.output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

Deno.test("importing opens nothing: it works without any permission, and use names the file that is missing one", async () => {
  const code = `try { handoff.listen({ port: 0 }); } catch (error) { console.log(error.name, error.message); }`;
  const output = await run(code);
  assertStringIncludes(output, "NotCapable");
  assertStringIncludes(output, LIBRARY_PATHS[0]!);
});

Deno.test("the grant for the library files is enough", async () => {
  const code = `using listener = handoff.listen({ hostname: "127.0.0.1", port: 0 });
    using client = await handoff.connect({ port: listener.addr.port });
    using server = await listener.accept();
    using copy = await handoff.openSocket(handoff.duplicateSocket(server, Deno.pid));
    using conn = copy.toConn();
    console.log("served", conn.remoteAddr.port === client.localAddr.port);`;
  assertEquals((await run(code, FFI_GRANT)).trim(), "served true");
});

Deno.test("a library is opened from the first path that exists", () => {
  const symbols = Deno.build.os === "windows"
    ? { GetCurrentProcessId: { parameters: [], result: "u32" } } as const
    : { getpid: { parameters: [], result: "u32" } } as const;
  const path = Deno.build.os === "windows" ? LIBRARY_PATHS[1]! : LIBRARY_PATHS[0]!;
  const bound = openLibrary(["/nowhere/nothing.so", path], symbols) as Record<string, () => number>;
  assertEquals(Object.values(bound)[0]!(), Deno.pid);
  assertThrows(() => openLibrary(["/nowhere/nothing.so"], symbols), Error, "nothing.so");
});

Deno.test("an error says what was being done, which call failed, its code's name and number", () => {
  const error = new WinsockError(10022, { operation: "bind to port 80", functionName: "bind" });
  assertEquals(error.message, "Cannot bind to port 80: bind failed with WSAEINVAL (10022)");
  assertEquals([error.name, error.code, error.codeName], ["WinsockError", 10022, "WSAEINVAL"]);
  assertEquals(new WinsockError(12345, { operation: "x", functionName: "y" }).codeName, "12345");
});

Deno.test("errno becomes the Winsock code that means the same, and keeps its name", () => {
  const error = unixError(98, "bind to port 80", "bind");
  assertEquals([error.code, error.codeName], [10048, "WSAEADDRINUSE"]);
  assertStringIncludes(error.message, "EADDRINUSE (98)");
  assert(unixError(9999, "x", "y").codeName === "WSASYSCALLFAILURE");
});
