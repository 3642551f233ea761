/** What the kit knows of the protocol. */
export { encodeFrame, type Frame, FrameDecoder, FrameType, HEADER_SIZE } from "../../../handoff/protocol.ts";
export { type HandoffStep, TRACE_CHANNEL } from "@winsock/handoff";
