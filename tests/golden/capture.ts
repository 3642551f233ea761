/**
 * Prints a real blob of each form: `deno task windows run -A tests/golden/capture.ts > tests/golden/blobs.json`.
 */
import { duplicateSocket } from "@winsock/handoff";
import { WinsockProvider } from "@winsock/handoff/spi";
import { connection } from "../kit/connections.ts";

using pair = await connection();
const blobs = {
  WSAPROTOCOL_INFOW: duplicateSocket(pair.server, Deno.pid).toHex(),
  WSAPROTOCOL_INFOA: new WinsockProvider().duplicateSocketA(pair.server.handle, Deno.pid).toHex(),
};
console.log(JSON.stringify(blobs, undefined, 2));
