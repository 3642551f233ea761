/**
 * Draws the picture of `inspect` for the documentation, from the output of the command.
 *
 *     deno run -A tools/docs/inspect_picture.ts
 *
 * @module
 */
import { main } from "../../cli/mod.ts";
import blobs from "../../tests/golden/blobs.json" with { type: "json" };

/** The path of the picture. */
export const PICTURE = new URL("../../docs/inspect.svg", import.meta.url);

const COLUMNS = 112;
const COLUMN_WIDTH = 7.8;
const LINE_HEIGHT = 18;
const MARGIN = 16;
/** The class names for the colors of the command. Every color ends with a number that is not in this table. */
const CLASSES: Readonly<Record<string, string>> = { 1: "heading", 90: "dim", 36: "name", 32: "flag" };
const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const STYLE = `
    .paper { fill: #ffffff; stroke: #d1d9e0 } text { fill: #1f2328; white-space: pre }
    .heading { font-weight: bold } .dim { fill: #818b98 } .name { fill: #0550ae } .flag { fill: #116329 }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117; stroke: #3d444d } text { fill: #f0f6fc }
      .dim { fill: #656c76 } .name { fill: #79c0ff } .flag { fill: #7ee787 }
    }
  `;

/** Runs the command on a blob of ws2_32.dll, and draws its output. */
export async function drawInspect(): Promise<string> {
  const lines = ["$ deno run --allow-read=blob.bin @winsock/handoff/cli inspect blob.bin"];
  await main(["inspect", "blob.bin"], {
    read: () => Promise.resolve(Uint8Array.fromHex(blobs.WSAPROTOCOL_INFOW)),
    print: (line) => void lines.push(line),
    printError: (line) => {
      throw new Error(line);
    },
    columns: COLUMNS,
    color: true,
  });
  const width = Math.ceil(2 * MARGIN + COLUMNS * COLUMN_WIDTH);
  const height = 2 * MARGIN + lines.length * LINE_HEIGHT;
  const texts = lines.map((line, index) =>
    `  <text x="${MARGIN}" y="${MARGIN + (index + 0.75) * LINE_HEIGHT}">${spans(line)}</text>`
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="What inspect prints"`,
    `     font-family="ui-monospace, Consolas, Menlo, 'DejaVu Sans Mono', monospace" font-size="13" xml:space="preserve">`,
    `  <style>${STYLE}</style>`,
    `  <rect class="paper" x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>`,
    ...texts,
    "</svg>",
    "",
  ].join("\n");
}

/** Converts a line of the terminal, which contains text and escape sequences for styles. */
function spans(line: string): string {
  // deno-lint-ignore no-control-regex -- that is how terminals are told
  const [first = "", ...rest] = line.split(/\u001b\[(\d+)m/);
  let result = escape(first);
  for (let index = 0; index < rest.length; index += 2) {
    const name = CLASSES[rest[index]!];
    const text = escape(rest[index + 1]!);
    result += name === undefined || text === "" ? text : `<tspan class="${name}">${text}</tspan>`;
  }
  return result;
}

function escape(text: string): string {
  return text.replaceAll(/[&<>]/g, (character) => ENTITIES[character]!);
}

if (import.meta.main) await Deno.writeTextFile(PICTURE, await drawInspect());
