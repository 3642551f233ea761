// The README's source and worker, as they are printed there, in processes of their own.
import { assert, assertMatch } from "@std/assert";
import { endChild, FFI_GRANT, until } from "../kit/process.ts";
import { answerOf, freePort, layOutSnippets, startSnippet } from "../kit/snippets.ts";

Deno.test("the README's source and worker run as written, under the permissions it names", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets("README.md", ["source.ts", "worker.ts"], port);
  const source = startSnippet(snippets, "source.ts", ["--allow-run", FFI_GRANT]);
  try {
    let text = "";
    await until(async () => (text = await answerOf(port)) !== "", "the server answers");
    assertMatch(text, /^\{"acceptedBy":\d+\}, answered by \d+\n$/);
    const [acceptedBy, answeredBy] = [...text.matchAll(/\d+/g)].map(([pid]) => Number(pid));
    assert(acceptedBy === source.pid && answeredBy !== source.pid, text);
  } finally {
    await endChild(source);
  }
});
