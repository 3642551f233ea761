// The pictures of the benchmark's results: drawn from the committed ones, to scale, from zero.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { drawing, type Theme } from "../../bench/handoff/plot.ts";
import { readSaved } from "../../bench/handoff/saved.ts";
import { readServe, servePicture } from "../../bench/serve/plot.ts";

const THEMES: Theme[] = ["light", "dark"];

Deno.test("the documentation's pictures are those of the committed results", async () => {
  const lanes = await readSaved();
  for (const theme of THEMES) {
    const picture = await Deno.readTextFile(new URL(`../../docs/bench-${theme}.svg`, import.meta.url));
    assert(picture.replaceAll("\r\n", "\n") === drawing(lanes, theme), "deno task bench:plot draws them anew");
    const servers = await Deno.readTextFile(new URL(`../../docs/serve-${theme}.svg`, import.meta.url));
    const drawn = servePicture(await readServe(), theme);
    assert(servers.replaceAll("\r\n", "\n") === drawn, "deno task bench:plot draws them anew");
  }
});

Deno.test("a bar is as long as its figure says, and begins at the axis's zero", async () => {
  for (const [name, lane] of Object.entries(await readSaved())) {
    const picture = drawing({ [name]: lane }, "light");
    const zero = Number(/<text x="([\d.]+)"[^>]*>0<\/text>/.exec(picture)?.[1]);
    const bars = [...picture.matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/g)].map(([, x, width]) => {
      assertEquals(Number(x), zero);
      return Number(width);
    });
    const rates = Object.values(lane.handoffs).flatMap((samples) => Object.values(samples)).map((one) => one.perSecond);
    assertEquals(bars.length, rates.length);
    const scale = Math.max(...bars) / Math.max(...rates);
    for (const [index, rate] of rates.entries()) assert(Math.abs(bars[index]! - rate * scale) < 0.2);
    for (const rate of rates) assertStringIncludes(picture, `>${Math.round(rate).toLocaleString("en-US")}<`);
  }
});
