// The checks of the documentation find what they are there to find.
import { assertEquals } from "@std/assert";
import { linksOf, problemOf } from "../../tools/docs/links.ts";
import { missingNames, unknownNames } from "../../tools/docs/names.ts";
import type { Exports } from "../../tools/docs/exports.ts";
import { parsePage } from "../../tools/docs/pages.ts";

const EXPORTS: Exports = new Map([
  [".", new Map([["Socket", { kind: "class", members: new Set(["toConn"]) }]])],
]);

Deno.test("a link to a file or heading that is not there is found, in markdown and in HTML", async () => {
  const page = parsePage(
    "docs/page.md",
    '[a](./windows.md) [b](./nothing.md) [c](./windows.md#nothing) <a href="../README.md#permissions">d</a>\n' +
      "[e](https://example.com/nothing) [f][g] ![h](nothing.svg)\n\n[g]: #nothing",
  );
  const links = linksOf(page).map(({ url }) => url);
  const found = await Promise.all(
    links.map((url) => problemOf(page.path, url, () => Promise.resolve("# Permissions"))),
  );
  assertEquals(found.filter((problem) => problem !== undefined), [
    "./nothing.md leads to no file",
    "docs/windows.md has no heading #nothing",
    "nothing.svg leads to no file",
    "#nothing leads to no file",
  ]);
});

Deno.test("a name that is not exported is found, and those of others are left alone", () => {
  const text =
    "`Socket` `Socket.toConn` `socket.toConn()` `toConn()` `WSASocketW` `Deno.TcpConn` `dwServiceFlags1` `server.ts`" +
    " `AF_INET` `deno task test` `Sockt` `Socket.toCon` `socket.toCon()` `recieve()`";
  const problems = unknownNames(parsePage("page.md", text), EXPORTS).map((problem) => problem.text);
  assertEquals(problems, [
    "Sockt is not exported",
    "Socket has no toCon",
    "nothing that is exported has a toCon",
    "recieve is not exported",
  ]);
});

Deno.test("a name that was promised and is not exported is found", () => {
  const missing = missingNames(EXPORTS).map(({ text }) => text);
  assertEquals(missing.includes("Socket: toConn is not exported"), false);
  assertEquals(missing.includes("Socket: detach is not exported"), true);
  assertEquals(missing.includes("serveHttp: serveHttp is not exported"), true);
});
