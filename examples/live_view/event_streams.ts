/**
 * Server-sent events (`text/event-stream`) for any number of browsers.
 *
 * @module
 */

/** The time within which changes are sent together. */
const PAUSE_MS = 50;
const RETRY_MS = 500;

/** Sends the same messages to all streams. A stream that is not read fast enough skips messages. */
export class EventStreams {
  readonly #message: () => string;
  readonly #open = new Set<ReadableStreamDefaultController<Uint8Array>>();
  #sending = false;

  constructor(message: () => string) {
    this.#message = message;
  }

  /** Opens a stream that begins with a message. */
  open(): ReadableStream<Uint8Array> {
    let opened: ReadableStreamDefaultController<Uint8Array>;
    return new ReadableStream({
      start: (controller) => {
        opened = controller;
        this.#open.add(controller);
        controller.enqueue(encode(`retry: ${RETRY_MS}\n${this.#event()}`));
      },
      cancel: () => void this.#open.delete(opened),
    });
  }

  /** Sends a message after a short pause. */
  send(): void {
    if (this.#sending) return;
    this.#sending = true;
    setTimeout(() => {
      this.#sending = false;
      this.#sendNow();
    }, PAUSE_MS);
  }

  /** Sends the last message and ends all streams. */
  end(): void {
    const event = encode(this.#event());
    for (const controller of this.#open) {
      controller.enqueue(event);
      controller.close();
    }
    this.#open.clear();
  }

  #sendNow(): void {
    if (this.#open.size === 0) return;
    const event = encode(this.#event());
    for (const controller of this.#open) if (controller.desiredSize! > 0) controller.enqueue(event);
  }

  #event(): string {
    return `data: ${this.#message()}\n\n`;
  }
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
