// The same requests and programs on Deno.serve itself and on both engines of serveHttp: what differs is in the tables of
// "Migrating", and what the tables say differs does. The scenarios are those of Deno's own tests of Deno.serve.
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { connect, listen } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { needs } from "../kit/needs.ts";
import { within } from "../kit/process.ts";
import { compare } from "./scenarios/compare.ts";

/** The rows of the tables that begin with this line, up to the next heading. */
function rowsBelow(heading: string): string[] {
  const page = Deno.readTextFileSync(new URL("../../docs/migrating.md", import.meta.url));
  const from = page.indexOf(heading);
  assert(from >= 0, `"Migrating" has no ${heading}`);
  const section = page.slice(from + heading.length).split(/^#/m)[0]!;
  return section.split("\n").filter((line) => /^\| (?!---|`Deno\.serve` \|)/.test(line));
}

/** Rows about which nothing can be compared, and why. */
const NOT_COMPARED: Record<string, string> = {
  "a response with a control character": "it ends the process of Deno.serve",
  "`remoteAddr` of a local connection": "the test of local connections below does it",
};

Deno.test({
  name: "serveHttp does what Deno.serve does, except for what the tables of differences say",
  // Older ones answer otherwise themselves, and end over some of it.
  ignore: !canAdoptResource() || Deno.version.deno.localeCompare("2.9.6", "en", { numeric: true }) < 0,
  async fn(test) {
    const rows = rowsBelow("### Differences from Deno.serve");
    const results = await compare();
    assert(results.length >= 180);
    const used = new Set<string>();
    for (const { name, seen, row, differs } of results) {
      await test.step(name, () => {
        for (const kind of ["auto", "node:http"] as const) {
          if (!differs.includes(kind)) assertEquals(seen[kind], seen.reference, kind);
          else assertNotEquals(seen[kind], seen.reference, `${kind}: the row "${row}" is not needed any more`);
        }
        if (row === undefined) return;
        const found = rows.filter((line) => line.includes(row));
        assertEquals(found.length, 1, `The rows with "${row}"`);
        used.add(found[0]!);
      });
    }
    const exempt = (line: string) => Object.keys(NOT_COMPARED).some((part) => line.includes(part));
    assertEquals(rows.filter((line) => !used.has(line) && !exempt(line)), [], "rows without a scenario");
  },
});

Deno.test("the URL of a request on a local connection is that of Deno.serve", needs("local sockets"), async () => {
  const directory = await Deno.makeTempDir();
  try {
    const requests = {
      "no Host": "GET /path?query HTTP/1.0\r\n",
      "a Host": "GET /path HTTP/1.1\r\nHost: localhost\r\n",
      "an empty Host": "GET /path HTTP/1.1\r\nHost: \r\n",
      "an absolute target": "GET http://a/path HTTP/1.1\r\nHost: b\r\n",
      "a star": "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
    };
    const urlsOf = async (path: string) => {
      const urls: Record<string, string> = {};
      for (const [name, head] of Object.entries(requests)) {
        const conn = (await connect({ path })).toConn();
        await conn.write(new TextEncoder().encode(`${head}Connection: close\r\n\r\n`));
        const answer = await within(20_000, new Response(conn.readable).text());
        urls[name] = answer.split("\r\n\r\n")[1]!;
      }
      return urls;
    };
    // A path with characters that a host cannot have.
    const path = `${directory}/a b-c_d.sock`;
    const handler = ({ url }: Request, { remoteAddr }: { remoteAddr: unknown }) => {
      return new Response(url, { headers: { "x-path": (remoteAddr as Deno.UnixAddr).path ?? "" } });
    };
    const reference = Deno.serve({ path, onListen: () => {} }, handler);
    const expected = await urlsOf(path);
    await reference.shutdown();
    await Deno.remove(path).catch(() => {});
    const server = serveHttp(listen({ path }), handler as () => Response, { shutdownTimeout: 100 });
    assertEquals(await urlsOf(path), expected);
    const conn = (await connect({ path })).toConn();
    await conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    assertMatch(await within(20_000, new Response(conn.readable).text()), /^x-path: \r$/im);
    await within(20_000, server.shutdown());
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
