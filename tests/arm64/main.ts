/**
 * Hands a live HTTP connection off to another process, like `examples/handoff_http.ts`, where starting a process takes
 * long: `deno task demo:arm64`.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { HandoffSource, LIBRARY_PATHS, listen } from "@winsock/handoff";

/** Half a minute passes before the target is ready if QEMU runs it. */
const START_MS = 300_000;
const SEND_MS = 60_000;

using listener = listen({ hostname: "127.0.0.1", port: 0 });
console.log(`Process ${Deno.pid} (${Deno.build.arch}) listens on port ${listener.addr.port}`);
const child = new Deno.Command(Deno.execPath(), {
  args: [
    "run",
    "--quiet",
    "--no-prompt",
    "--no-check",
    `--allow-ffi=${LIBRARY_PATHS.join(",")}`,
    new URL("../../examples/http_worker.ts", import.meta.url).href,
  ],
  stdin: "piped",
}).spawn();
const source = new HandoffSource(child, { startTimeout: START_MS, sendTimeout: SEND_MS });
await source.ready;

const client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
await client.write(new TextEncoder().encode("GET /demo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
await source.send(await listener.accept());
const response = await new Response(client.readable).text();
await source.close();
assertStringIncludes(response, `Hello demo from process ${child.pid}`);
assertEquals((await child.status).code, 0);
console.log(response.split("\r\n\r\n")[1]);
