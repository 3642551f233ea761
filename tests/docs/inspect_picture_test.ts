// The picture of `inspect` in the documentation shows what the command prints today.
import { assert } from "@std/assert";
import { drawInspect, PICTURE } from "../../tools/docs/inspect_picture.ts";

Deno.test("the picture of inspect is what the command prints; deno run -A tools/docs/inspect_picture.ts draws it anew", async () => {
  const drawn = (await Deno.readTextFile(PICTURE)).replaceAll("\r\n", "\n");
  assert(drawn === await drawInspect());
});
