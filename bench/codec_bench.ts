/**
 * The codec of WSAPROTOCOL_INFOW against code written by hand for its 628 bytes.
 *
 * @module
 */
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";

const bytes = WSAPROTOCOL_INFOW.encode({
  ...WSAPROTOCOL_INFOW.decode(new Uint8Array(628)),
  szProtocol: "MSAFD Tcpip [TCP/IP]",
});
const info = WSAPROTOCOL_INFOW.decode(bytes);
const buffer = new Uint8Array(628);

Deno.bench("decode all fields", { group: "decode" }, () => void WSAPROTOCOL_INFOW.decode(bytes));
Deno.bench("encode all fields", { group: "encode" }, () => void WSAPROTOCOL_INFOW.encode(info, buffer));
