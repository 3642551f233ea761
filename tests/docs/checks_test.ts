// The checks of the documentation find what they are there to find.
import { assertEquals } from "@std/assert";
import { Writable } from "node:stream";
import type { Api } from "../../tools/api/doc.ts";
import { checkLinks } from "../../tools/docs/links.ts";
import { unknownNames } from "../../tools/docs/names.ts";
import { parsePage } from "../../tools/docs/pages.ts";

const API: Api = new Map([[".", [{
  name: "Socket",
  declarations: [{ kind: "interface", def: { properties: [{ name: "toConn" }] } }],
}]]]);

/** What the check of links says about a page beside another. */
async function linkProblems(text: string, another: string): Promise<string[]> {
  // In the project: the check cannot look at files on another drive.
  const folder = `.cache/links-${crypto.randomUUID()}`;
  await Deno.mkdir(folder, { recursive: true });
  let said = "";
  const to = new Writable({
    write(chunk, _encoding, done) {
      said += chunk;
      done();
    },
  });
  try {
    await Deno.writeTextFile(`${folder}/page.md`, text);
    await Deno.writeTextFile(`${folder}/another.md`, another);
    assertEquals(await checkLinks([`${folder}/page.md`], to), false);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  return [...said.matchAll(/Cannot find .*`/g)].map(([problem]) => problem).sort();
}

Deno.test("a link to a file or heading that is not there is found, in markdown and in HTML", async () => {
  const problems = await linkProblems(
    '[a](./another.md) [b](./nothing.md) [c](./another.md#nothing) <a href="another.md#use-it">d</a>\n' +
      '[e](https://example.com/nothing) [f][g] ![h](nothing.svg) <img src="nothing.png">\n\n[g]: #nothing',
    "# Use `it`",
  );
  assertEquals(problems, [
    "Cannot find file `nothing.md`",
    "Cannot find file `nothing.png`",
    "Cannot find file `nothing.svg`",
    "Cannot find heading for `#nothing`",
    "Cannot find heading for `#nothing` in `another.md`",
  ]);
});

Deno.test("a name that is not exported is found, and those of others are left alone", () => {
  const text =
    "`Socket` `Socket.toConn` `socket.toConn()` `toConn()` `WSASocketW` `Deno.TcpConn` `dwServiceFlags1` `server.ts`" +
    " `AF_INET` `deno task test` `stream.pipeTo` `Sockt` `Socket.toCon` `socket.toCon()` `recieve()`";
  const problems = unknownNames(parsePage("page.md", text), API).map((problem) => problem.text);
  assertEquals(problems, [
    "Sockt is not exported",
    "Socket has no toCon",
    "nothing that is exported has a toCon",
    "recieve is not exported",
  ]);
});
