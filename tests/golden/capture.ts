/**
 * Prints a real blob of each form: `deno task windows run -A tests/golden/capture.ts > tests/golden/blobs.json`.
 */
import { duplicateSocket } from "@winsock/handoff";
import { connection } from "../kit/connections.ts";
import { duplicateSocketA } from "../kit/ansi.ts";

using pair = await connection();
const blobs = {
  WSAPROTOCOL_INFOW: duplicateSocket(pair.server, Deno.pid).toHex(),
  WSAPROTOCOL_INFOA: duplicateSocketA(pair.server.handle).toHex(),
};
console.log(JSON.stringify(blobs, undefined, 2));
