/** Processes of `tests/native/attacker.c`, which attack a rendezvous as another user. */
import { NATIVE_PATH, withNative } from "./native.ts";

/** `nobody`. */
const OTHER_USER = 65_534;

const SYMBOLS = {
  attacker_start: { parameters: ["i32", "buffer"], result: "i32" },
  attacker_tell: { parameters: ["i32", "i32", "buffer", "i32"], result: "i32" },
  attacker_reply: { parameters: ["i32"], result: "i32", nonblocking: true },
  attacker_reply_now: { name: "attacker_reply", parameters: ["i32"], result: "i32" },
  attacker_end: { parameters: ["i32", "i32"], result: "void" },
  start_with_id: { parameters: ["i32"], result: "i32" },
  end_process: { parameters: ["i32"], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

function native() {
  return symbols ??= Deno.dlopen(NATIVE_PATH, SYMBOLS).symbols;
}

/** Leaves a test out where no attackers can be had; the lane has said so. */
export const withAttackers = { ignore: withNative.ignore || Deno.build.os !== "linux" };
/** The same where they cannot be another user's, nor have an id of choice: only root can start such. */
export const withRoot = { ignore: withAttackers.ignore || Deno.uid() !== 0 };

/** What an attacker is told to do. */
const COMMANDS = {
  /** Connects to a path. */
  connect: 1,
  /** Has a process connect that ends then, and keeps its connection. The reply is its process id. */
  connectByStub: 2,
  /** Sends bytes. */
  send: 3,
  /** Sends bytes, and with them a TCP socket whose last close takes 8 seconds. */
  sendLingering: 4,
  /** Receives. The reply is how many descriptors came. */
  receive: 5,
  /** Connects and claims again and again, for so many milliseconds. The reply is how often. */
  flood: 6,
  /** Uses a processor, for so many milliseconds. */
  burn: 7,
  /** Connects once more. */
  connectMore: 8,
  /** The same as `flood`, at a socket of its own: what a flood costs the machine, but not the source. */
  floodOwn: 9,
  /** The same as `flood`, at all addresses that begin with the given text: it looks for them in `/proc/net/unix`. */
  search: 10,
} as const;

export class Attacker implements Disposable {
  readonly processId: number;
  readonly #control: number;

  /** @param stranger Whether it is another user's; otherwise it is this one's. */
  constructor(stranger: boolean) {
    const control = new Int32Array(1);
    this.processId = native().attacker_start(stranger ? OTHER_USER : 0, control);
    if (this.processId < 0) throw new Error(`No attacker could be started: ${this.processId}`);
    this.#control = control[0]!;
  }

  /** Has it do something. The reply is what the command says, or an error's number, negative. */
  async tell(command: keyof typeof COMMANDS, bytes: Uint8Array | string = "", milliseconds?: number): Promise<number> {
    this.#tell(command, bytes, milliseconds);
    return await native().attacker_reply(this.#control);
  }

  /** The same, and blocks this thread until it is done. */
  tellNow(command: keyof typeof COMMANDS, bytes: Uint8Array | string = ""): number {
    this.#tell(command, bytes);
    return native().attacker_reply_now(this.#control);
  }

  #tell(command: keyof typeof COMMANDS, bytes: Uint8Array | string, milliseconds?: number): void {
    const content = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
    const time = milliseconds === undefined ? [] : new Uint8Array(new Int32Array([milliseconds]).buffer);
    const told = new Uint8Array([...time, ...content]);
    const result = native().attacker_tell(this.#control, COMMANDS[command], told, told.byteLength);
    if (result < 0) throw new Error(`The attacker cannot be told: ${result}`);
  }

  [Symbol.dispose](): void {
    native().attacker_end(this.#control, this.processId);
  }
}

/** A process with an id that was another's before, which does nothing; `undefined` if somebody has it again. */
export function startWithId(processId: number): Disposable | undefined {
  const pid = native().start_with_id(processId);
  if (pid < 0) return undefined;
  return { [Symbol.dispose]: () => native().end_process(pid) };
}
