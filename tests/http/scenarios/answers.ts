// What a server answers to bytes, in a form that can be compared between servers.
import { Buffer } from "node:buffer";
import { brotliDecompressSync, constants, gunzipSync } from "node:zlib";
import { RawClient } from "../../kit/http_client.ts";
import { LAST, type RequestScenario } from "./requests.ts";

/** Headers that say how the connection goes on, or that differ between any two responses. */
const SKIPPED = /^(date|connection|keep-alive|server)$/;
/** Headers that say where the body ends, which may be said in other words. */
const FRAMING = /^(content-length|transfer-encoding)$/;

/** What is in a compressed body, or that it cannot be read. */
function unpacked(body: string, encoding: string): string {
  const bytes = Buffer.from(body, "latin1");
  const unpack = encoding === "br" ? brotliDecompressSync : gunzipSync;
  const finishFlush = encoding === "br" ? constants.BROTLI_OPERATION_FLUSH : constants.Z_SYNC_FLUSH;
  try {
    return `<${encoding}>${unpack(bytes, { finishFlush }).toString("latin1")}`;
  } catch {
    return `<not ${encoding}>`;
  }
}

/** What a server answers to a request and one that ends the connection: statuses, headers and bodies, or where it breaks off. */
export async function answersTo({ text, framing, reason }: RequestScenario, port: number): Promise<string[]> {
  using client = await RawClient.connect(port);
  await client.write(Uint8Array.from(text + LAST, (char) => char.charCodeAt(0)));
  let rest = await client.rest();
  const said: string[] = [];
  const isHead = text.startsWith("HEAD");
  while (rest !== "") {
    const [head] = rest.split("\r\n\r\n", 1);
    const status = Number(head!.split(" ")[1]);
    const headers = head!.split("\r\n").slice(1).map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()));
    const kept = headers.filter((line) => {
      const [name] = line.split(":");
      return !SKIPPED.test(name!) && (framing && said.length === 0 || !FRAMING.test(name!));
    });
    rest = rest.slice(head!.length + 4);
    const valueOf = (name: string) => headers.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 2);
    const length = valueOf("content-length");
    const encoding = valueOf("content-encoding");
    let body = "";
    if (isHead && said.length === 0 || status < 200 || [204, 205, 304].includes(status)) body = "";
    else if (headers.includes("transfer-encoding: chunked")) {
      for (;;) {
        const size = /^([0-9a-f]+)\r\n/i.exec(rest);
        if (size === null) {
          [body, rest] = [`${body}<broken off>`, ""];
          break;
        }
        const count = parseInt(size[1]!, 16);
        body += rest.slice(size[0].length, size[0].length + count);
        rest = rest.slice(size[0].length + count + 2);
        if (count === 0) break;
      }
    } else if (length === undefined) [body, rest] = [rest, ""];
    else {
      body = rest.length < Number(length) ? "<broken off>" : rest.slice(0, Number(length));
      rest = rest.slice(Number(length));
    }
    if (encoding === "br" || encoding === "gzip") body = unpacked(body, encoding);
    // A refusal may say why, or not.
    if (status === 400 || status === 431) said.push(`${status}`);
    else said.push([reason ? head!.slice(9).split("\r\n", 1)[0] : status, ...kept.sort(), body].join("\n"));
  }
  return said;
}
