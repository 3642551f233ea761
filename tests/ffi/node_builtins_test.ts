// What makes a start slow is kept out of what an import loads; `deno task bench:startup` measures it.
import { assert, assertEquals } from "@std/assert";
import { nodeBuiltin } from "../../internal/runtime.ts";
import net from "node:net";
import process from "node:process";

Deno.test("importing the library loads none of Deno's node: modules", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--quiet", "--json", new URL("../../mod.ts", import.meta.url).href],
  }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout));
  assert(modules.length > 50, "these are the library's modules");
  const imported: string[] = [];
  for (const { specifier, dependencies = [] } of modules) {
    for (const { code } of dependencies) {
      if (code?.specifier?.startsWith("node:")) imported.push(`${specifier}: ${code.specifier}`);
    }
  }
  assertEquals(imported, []);
});

Deno.test("what is loaded at first use is what an import gives", () => {
  assert(nodeBuiltin("node:net").Socket === net.Socket);
  assert(nodeBuiltin("node:process") === process);
});
