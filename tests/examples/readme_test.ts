// The README's source and worker, as they are printed there, in processes of their own.
import { assert, assertMatch } from "@std/assert";
import { endChild, FFI_GRANT, until } from "../kit/process.ts";
import { answerOf, freePort, layOutSnippets, startSnippet } from "../kit/snippets.ts";

const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

Deno.test("the README's source and worker run as written, under the permissions it names", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets("README.md", ["source.ts", "worker.ts"], port);
  const source = startSnippet(snippets, "source.ts", ["--allow-run", FFI_GRANT]);
  try {
    let text = "";
    await until(async () => (text = await answerOf(port, REQUEST)) !== "", "the server answers");
    assertMatch(text, /^HTTP\/1\.1 200 [^]*\r\n\r\n\{"acceptedBy":\d+\}, answered by \d+\n$/);
    const [acceptedBy, answeredBy] = /(\d+)\D+(\d+)\n$/.exec(text)!.slice(1).map(Number);
    assert(acceptedBy === source.pid && answeredBy !== source.pid, text);
  } finally {
    await endChild(source);
  }
});
