/**
 * One version of a server, from taking over to being replaced.
 *
 * @module
 */
import { listen, type Listener, type ListenOptions } from "../../sockets/listener.ts";
import type { Conversation } from "./conversation.ts";
import { type Inheritance, type InheritedConnection, PREDECESSOR_VARIABLE, takeInheritance } from "./inheritance.ts";

/** Where {@linkcode inherited} looks. */
export interface InheritedOptions {
  /**
   * Listeners that came another way, such as `systemdSockets()` of `@winsock/handoff/interop`. A predecessor's come
   * first.
   */
  sockets?: { takeListener(name: string): Listener | undefined };
  /** The predecessor's process id; 0 for none. Default: the environment's, which needs `--allow-env` for that variable. */
  predecessor?: number;
  /** Where frames come from. Default: this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}

/** What the other files of an upgrade may know of a {@linkcode Generation}. */
export interface GenerationState {
  readonly listeners: ReadonlyMap<string, Listener>;
  /** Whether an upgrade is under way or done. */
  upgrading: boolean;
  /** Where this version only keeps the listeners: the version that serves. */
  successor: Conversation | undefined;
  retire(): void;
}

let makeGeneration: (
  inheritance: Inheritance | undefined,
  predecessor: number,
  sockets: InheritedOptions["sockets"],
) => Generation;

/** The state of a generation, for {@linkcode upgrade} alone. */
export let stateOf: (generation: Generation) => GenerationState;

/**
 * One version of a server. {@linkcode inherited} makes it, {@linkcode upgrade} replaces it.
 */
export class Generation implements Disposable {
  /** The process this one takes over from; `undefined` at a first start. */
  readonly predecessor: number | undefined;
  /** Established connections that came along, in order; whoever takes them owns them. */
  readonly connections: readonly InheritedConnection[];
  /** Resolves when a successor serves and this version accepts nothing any more. */
  readonly retired: Promise<void>;

  readonly #untaken: Map<string, Listener>;
  readonly #listeners = new Map<string, Listener>();
  readonly #sockets: InheritedOptions["sockets"];
  readonly #conversation: Conversation | undefined;
  readonly #retired = Promise.withResolvers<void>();
  readonly #state: GenerationState = {
    listeners: this.#listeners,
    upgrading: false,
    successor: undefined,
    retire: () => this.#retire(),
  };
  #serving = false;

  private constructor(inheritance: Inheritance | undefined, predecessor: number, sockets: InheritedOptions["sockets"]) {
    this.predecessor = inheritance === undefined ? undefined : predecessor;
    this.connections = inheritance?.connections ?? [];
    this.retired = this.#retired.promise;
    this.#untaken = inheritance?.listeners ?? new Map();
    this.#conversation = inheritance?.conversation;
    this.#sockets = sockets;
  }

  static {
    makeGeneration = (inheritance, predecessor, sockets) => new Generation(inheritance, predecessor, sockets);
    stateOf = (generation) => generation.#state;
  }

  /** Names of the predecessor's listeners that have not been taken. */
  get names(): string[] {
    return [...this.#untaken.keys()];
  }

  /**
   * Takes the listener of that name, or makes one. It accepts from {@linkcode Generation.ready} on; connections that
   * arrive earlier wait.
   *
   * @param name The listener's name; the next version asks for it by the same.
   * @param options Where to listen, if there is none to take.
   * @returns The listener.
   * @throws {TypeError} If it was taken already.
   * @throws {WinsockError} If it must be made and cannot, such as WSAEADDRINUSE.
   */
  listen(name: string, options: ListenOptions): Listener {
    if (this.#listeners.has(name)) throw new TypeError(`Listener "${name}" was taken already`);
    const listener = this.#untaken.get(name) ?? this.#sockets?.takeListener(name) ?? listen(options);
    this.#untaken.delete(name);
    this.#listeners.set(name, listener);
    if (!this.#serving) listener.pause();
    return listener;
  }

  /**
   * Says that this version can serve. The predecessor stops accepting, and this one begins; listeners that nobody took
   * are closed.
   *
   * @returns Resolves when this version accepts.
   */
  async ready(): Promise<void> {
    if (this.#serving) return;
    for (const listener of this.#untaken.values()) listener.close();
    this.#untaken.clear();
    this.#conversation?.say({ say: "ready" });
    // A predecessor that is gone accepts nothing either.
    await this.#conversation?.next(true);
    this.#serve();
    this.#conversation?.say({ say: "serving" });
    this.#obey();
  }

  /**
   * Says that this version will not serve, and closes its listeners. The predecessor carries on.
   *
   * @param reason Why.
   */
  refuse(reason: string): void {
    this.#conversation?.say({ say: "refuse", reason });
    this.#conversation?.close();
    this[Symbol.dispose]();
  }

  /** Closes all listeners of this version. */
  [Symbol.dispose](): void {
    for (const listener of [...this.#listeners.values(), ...this.#untaken.values()]) listener.close();
  }

  #serve(): void {
    this.#serving = true;
    for (const listener of this.#listeners.values()) listener.resume();
  }

  #retire(): void {
    this[Symbol.dispose]();
    this.#retired.resolve();
  }

  /** A supervisor that keeps the listeners replaces this version when it has another. */
  async #obey(): Promise<void> {
    let paused = false;
    for (let message = await this.#conversation?.next(); message !== undefined;) {
      if (message.say === "pause") {
        paused = true;
        await Promise.all([...this.#listeners.values()].map((listener) => listener.pause()));
        this.#conversation?.say({ say: "paused" });
      } else if (message.say === "resume") {
        paused = false;
        this.#serve();
      } else if (message.say === "retire") {
        return this.#retire();
      }
      message = await this.#conversation?.next(paused);
    }
    // The supervisor died between two versions.
    if (paused) this.#serve();
  }
}

/**
 * Begins a version of a server: takes over from the one before it, if there is one.
 *
 * Needs ffi access to the system's socket library, and `--allow-env=WINSOCK_HANDOFF_PREDECESSOR` unless `predecessor` is
 * given. No net permission.
 *
 * @example A server that can be replaced
 * ```ts ignore
 * import { inherited, upgrade } from "@winsock/handoff";
 *
 * const generation = await inherited();
 * const listener = generation.listen("http", { port: 8080 });
 * serve(listener);
 * await generation.ready();
 * Deno.addSignalListener("SIGHUP", async () => {
 *   await upgrade(generation, { script: new URL("server.ts", import.meta.url), drain: 10_000 });
 *   Deno.exit();
 * });
 * ```
 *
 * @param options Where to look.
 * @returns The version; call {@linkcode Generation.ready} when it can serve.
 * @throws {Deno.errors.NotCapable} Without the permission to read the environment variable.
 * @throws {HandoffError} `channel-broken` if what arrives is not the protocol.
 */
export async function inherited(options: InheritedOptions = {}): Promise<Generation> {
  const predecessor = options.predecessor ?? Number(Deno.env.get(PREDECESSOR_VARIABLE) ?? 0);
  const inheritance = predecessor === 0 ? undefined : await takeInheritance(options.input);
  return makeGeneration(inheritance, predecessor, options.sockets);
}
