// The structure check finds what it is there to find, and nothing in the package as it is.
import { assertEquals } from "@std/assert";
import { type ImportKind, type ModuleGraph, readModuleGraph } from "../../tools/module_graph.ts";
import {
  circleProblems,
  figureProblems,
  figuresOf,
  layerProblems,
  loadedBy,
  singleImporterProblems,
  singleImporters,
} from "../../tools/structure.ts";

/** A graph of modules: each imports the ones after it, in one way. */
function graphOf(modules: Record<string, Record<string, ImportKind>>): ModuleGraph {
  return new Map(Object.entries(modules).map(([path, imports]) => [path, new Map(Object.entries(imports))]));
}

Deno.test({
  name: "the package: imports go down and in no new circle, and no figure is larger than allowed, no module too many",
  // It is about the sources, which are the same on every system.
  ignore: Deno.build.os === "windows",
  async fn() {
    const graph = await readModuleGraph();
    assertEquals(layerProblems(graph), []);
    assertEquals(circleProblems(graph), []);
    assertEquals(figureProblems(figuresOf(graph)), []);
    assertEquals(singleImporterProblems(singleImporters(graph)), []);
  },
});

Deno.test("an import that goes up or aside is found, for types too; one within a folder is not", () => {
  const graph = graphOf({
    "mod.ts": { "sockets/a.ts": "static" },
    "sockets/a.ts": { "handoff/b.ts": "type", "sockets/c.ts": "static" },
    "sockets/c.ts": { "ffi/d.ts": "static" },
    "http/e.ts": { "interop/f.ts": "static" },
    "interop/f.ts": {},
    "handoff/b.ts": { "mod.ts": "static" },
    "ffi/d.ts": {},
    "other/g.ts": {},
  });
  const exceptions = { "handoff/b.ts → mod.ts": "a reason", "ffi/d.ts → cli/mod.ts": "a reason" };
  assertEquals(layerProblems(graph, exceptions), [
    "other/g.ts: the folder other is in no layer",
    "ffi/d.ts → cli/mod.ts: remove this exception",
    "http/e.ts → interop/f.ts: interop is not below http",
    "sockets/a.ts → handoff/b.ts: handoff is not below sockets",
  ]);
});

Deno.test("a circle is found once, with types and without", () => {
  const graph = graphOf({
    "ffi/a.ts": { "ffi/b.ts": "static" },
    "ffi/b.ts": { "ffi/c.ts": "type", "ffi/d.ts": "static" },
    "ffi/c.ts": { "ffi/a.ts": "static" },
    "ffi/d.ts": { "ffi/d.ts": "static" },
    "ffi/e.ts": { "ffi/a.ts": "static" },
  });
  assertEquals(circleProblems(graph, {}), [
    "ffi/a.ts → ffi/b.ts → ffi/c.ts → ffi/a.ts: a circle",
    "ffi/d.ts → ffi/d.ts: a circle",
  ]);
  const exceptions = { "ffi/d.ts → ffi/d.ts": "a reason", "ffi/e.ts → ffi/e.ts": "a reason" };
  assertEquals(circleProblems(graph, exceptions), [
    "ffi/a.ts → ffi/b.ts → ffi/c.ts → ffi/a.ts: a circle",
    "ffi/e.ts → ffi/e.ts: remove this exception",
  ]);
});

Deno.test("a module is loaded with those it imports, not with its types and what it imports later", () => {
  const graph = graphOf({
    "ffi/a.ts": { "ffi/b.ts": "static", "ffi/c.ts": "type", "ffi/d.ts": "dynamic" },
    "ffi/b.ts": { "ffi/e.ts": "static", "ffi/a.ts": "static" },
  });
  assertEquals([...loadedBy(graph, "ffi/a.ts")], ["ffi/a.ts", "ffi/b.ts", "ffi/e.ts"]);
});

Deno.test("a module with one importer is found, unless that is an entry point", () => {
  const graph = graphOf({
    "mod.ts": { "sockets/a.ts": "static" },
    "sockets/a.ts": { "sockets/b.ts": "static", "sockets/c.ts": "type", "sockets/d.ts": "static" },
    "sockets/b.ts": { "sockets/d.ts": "static" },
    "sockets/c.ts": {},
    "sockets/d.ts": {},
  });
  const single = singleImporters(graph);
  assertEquals(Object.fromEntries(single), { "sockets/b.ts": "sockets/a.ts", "sockets/c.ts": "sockets/a.ts" });
  assertEquals(singleImporterProblems(single, { "sockets/c.ts": "data", "sockets/d.ts": "data" }), [
    "sockets/b.ts: only sockets/a.ts",
    "sockets/d.ts: remove this exception",
  ]);
});

Deno.test("a figure that is too large is found", () => {
  assertEquals(
    figureProblems([{ name: "published", modules: 3, max: 2 }, { name: "loaded by .", modules: 2, max: 2 }]),
    [
      "published: 3 modules, the most allowed is 2",
    ],
  );
});
