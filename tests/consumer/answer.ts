/** Trying the project's programs: a request over a real connection, which the source accepts and the worker answers. */
import { assert, assertEquals } from "@std/assert";
import { endChild, FFI_GRANT, lines, RUN, within } from "../kit/process.ts";

/**
 * What a worker answers that got a connection from a source, both under the smallest permissions.
 *
 * @param worker The worker's program.
 * @param program The source, which starts the worker and accepts the connection.
 * @param where In what folder they are, and what Deno must know.
 */
export async function answerOf(
  worker: string,
  program: string,
  where: { cwd: URL; env?: Record<string, string> },
): Promise<{ path: string | undefined }> {
  const source = new Deno.Command(Deno.execPath(), {
    ...where,
    args: [...RUN, "--allow-run", FFI_GRANT, program, worker],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  try {
    const port = Number(await lines(source as Deno.ChildProcess)());
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    await conn.write(new TextEncoder().encode("GET /path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    const text = await within(20_000, new Response(conn.readable).text());
    const { path, data, answeredBy } = JSON.parse(/\{.*\}/.exec(text)?.[0] ?? "{}");
    assertEquals(data, { acceptedBy: source.pid }, text);
    assert(answeredBy > 0 && answeredBy !== source.pid, text);
    return { path };
  } finally {
    await endChild(source);
  }
}
