/**
 * Claiming without returning to the event loop, for callers that cannot wait.
 *
 * @module
 */
import { libc } from "../../ffi/unix/libc.ts";
import { receiveMessage, sendMessage } from "../../ffi/unix/message.ts";
import { POLLIN, pollNow } from "../../ffi/unix/poll.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { decodeAnswer, encodeClaim } from "./claim_messages.ts";
import { noRoom, refusedClaim, rendezvousClosed } from "./claim_error.ts";
import { connectRendezvous } from "./rendezvous_socket.ts";

const ANSWER_TIMEOUT_MS = 5_000;
const CONNECT_DELAY_MS = 2;

/**
 * Claims a duplicate of another process and blocks this thread until it answers.
 *
 * @param rendezvous The source's rendezvous.
 * @param number Which of its duplicates.
 * @returns The descriptor; the caller's to close.
 * @throws {WinsockError} If the source refuses, is gone, or does not answer in 5 seconds.
 */
export function claimNow(rendezvous: string, number: number): bigint {
  const deadline = performance.now() + ANSWER_TIMEOUT_MS;
  const fd = connectNow(rendezvous, deadline);
  try {
    if (!sendMessage(fd, encodeClaim(number))) throw refusedClaim(WSA_ERRORS.WSAENOBUFS);
    // A signal may end the poll early: only the message itself says that it has come.
    for (let message = receiveMessage(fd);; message = receiveMessage(fd)) {
      if (message === undefined) {
        if (performance.now() > deadline) throw refusedClaim(WSA_ERRORS.WSAETIMEDOUT, "the source does not answer");
        pollNow(Math.max(1, Math.ceil(deadline - performance.now())), [fd, POLLIN]);
        continue;
      }
      if (message.bytes.byteLength === 0) {
        throw rendezvousClosed();
      }
      const { code } = decodeAnswer(message.bytes);
      if (code !== 0) throw refusedClaim(code);
      if (message.descriptor !== undefined) return message.descriptor;
      throw noRoom();
    }
  } finally {
    libc().close(fd);
  }
}

function connectNow(rendezvous: string, deadline: number): bigint {
  while (performance.now() < deadline) {
    const fd = connectRendezvous(rendezvous);
    if (fd !== undefined) return fd;
    pollNow(CONNECT_DELAY_MS);
  }
  throw refusedClaim(WSA_ERRORS.WSAETIMEDOUT, "the source does not accept claims");
}
