/**
 * Decisions on Unix. The tables are a sealed memory file, one after the other. Each decision is a spin lock in it: the first process that
 * tries the lock holds it permanently. If libc does not have such a lock (glibc before 2.34, macOS), the decisions are
 * names in a directory: only the first `mkdirat` of a name succeeds.
 *
 * @module
 */
import {
  DECISION_SLOTS,
  DecisionMeans,
  type OfferDecisions,
  type SourceDecisions,
  type TakeDecisions,
  type TargetDecisions,
} from "../decisions.ts";
import { WinsockError } from "../winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { closeOnExec, fcntl } from "./descriptors.ts";
import { errno, isErrno, lastUnixError, libc, libcFunctions, unixError, unixSystem } from "./libc.ts";
import { makePrivateDirectory, nulTerminated, type PrivateDirectory } from "./local_sockets.ts";

/**
 * The size of a slot in bytes: one cache line, so that two processes that decide two slots do not wait for each other.
 */
const SLOT_SIZE = 64;
/** The number of slots of both tables. The first half is for what the source hands off. */
const ALL_SLOTS = 2 * DECISION_SLOTS;
const TABLE_SIZE = ALL_SLOTS * SLOT_SIZE;

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
/** `F_SEAL_SEAL`, `F_SEAL_SHRINK`, `F_SEAL_GROW`. If the file shrank, a process that has mapped it would be killed. */
const SEALS = 0x1 | 0x2 | 0x4;
const PROT_READ_WRITE = 0x1 | 0x2;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const SEEK_END = 2;
const READABLE_BY_OWNER = 0o700;

const memory = libcFunctions({
  /** `int memfd_create(const char *name, unsigned int flags)` */
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  /** `int ftruncate(int fd, off_t length)` */
  ftruncate: { parameters: ["usize", "i64"], result: "i32" },
  /** `off_t lseek(int fd, off_t offset, int whence)` */
  lseek: { parameters: ["usize", "i64", "i32"], result: "i64" },
  /** `void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)` */
  mmap: { parameters: ["usize", "usize", "i32", "i32", "usize", "i64"], result: "usize" },
  /** `int munmap(void *addr, size_t length)` */
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  /** `int pthread_spin_trylock(pthread_spinlock_t *lock)`: in libc itself since glibc 2.34 */
  pthread_spin_trylock: { parameters: ["usize"], result: "i32", optional: true },
  /** `int pthread_spin_unlock(pthread_spinlock_t *lock)` */
  pthread_spin_unlock: { parameters: ["usize"], result: "i32", optional: true },
});

const names = libcFunctions({
  /** `int open(const char *path, int oflag, ...)`, without a mode */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  /** `int mkdirat(int fd, const char *path, mode_t mode)` */
  mkdirat: { parameters: ["usize", "buffer", "u32"], result: "i32" },
  /** `int unlinkat(int fd, const char *path, int flag)` */
  unlinkat: { parameters: ["usize", "buffer", "i32"], result: "i32" },
});

/**
 * Makes a table for one channel.
 *
 * @returns The table as the source uses it.
 * @throws {WinsockError} If the system refuses, such as WSAEMFILE.
 */
export function newDecisions(): SourceDecisions {
  return hasSharedLocks() ? SourceWords.make() : new SourceNames();
}

/**
 * Opens the table of the channel of this process.
 *
 * @param means How the source made the table: a number of {@linkcode DecisionMeans}.
 * @param descriptor The descriptor that the source sent for the table. This function closes it in any case.
 * @returns The table as the target uses it.
 * @throws {RangeError} If the descriptor is not a table that is safe to use.
 * @throws {WinsockError} If the system refuses.
 */
export function openDecisions(means: number, descriptor: bigint): TargetDecisions {
  if (means === DecisionMeans.NAMES) return new TargetNames(descriptor);
  try {
    if (means !== DecisionMeans.WORDS) {
      throw new RangeError(`Cannot open a table of decisions: means ${means} is unknown`);
    }
    if (!hasSharedLocks()) throw unsupported();
    checkSealed(descriptor);
    return new TargetWords(map(descriptor));
  } finally {
    libc().close(descriptor);
  }
}

function hasSharedLocks(): boolean {
  return unixSystem().sharedLocks && memory().pthread_spin_trylock !== null && memory().pthread_spin_unlock !== null;
}

/** Words of memory that both processes have mapped. Zeros mean locked on x86, and open elsewhere. */
class Words implements OfferDecisions, TakeDecisions {
  /** The address of the first word; `undefined` once it is not mapped any more. */
  readonly #address: () => bigint | undefined;

  constructor(address: () => bigint | undefined) {
    this.#address = address;
  }

  remember(): void {}

  decide(slot: number): boolean {
    const word = this.#word(slot);
    return word !== undefined && memory().pthread_spin_trylock!(word) === 0;
  }

  open(slot: number): bigint {
    const word = this.#word(slot);
    if (word !== undefined) memory().pthread_spin_unlock!(word);
    return 0n;
  }

  #word(slot: number): bigint | undefined {
    checkSlot(slot);
    const address = this.#address();
    return address === undefined ? undefined : address + BigInt(slot * SLOT_SIZE);
  }
}

function checkSlot(slot: number): void {
  if (slot >= 0 && slot < DECISION_SLOTS) return;
  throw new RangeError(`Invalid \`slot\`: must be from 0 to ${DECISION_SLOTS - 1}, got ${slot}`);
}

/** Both tables in memory. */
class MappedWords extends Words {
  #mapped: bigint | undefined;
  readonly #back: Words;

  constructor(address: bigint) {
    super(() => this.#mapped);
    this.#mapped = address;
    this.#back = new Words(() => this.#mapped === undefined ? undefined : this.#mapped + BigInt(TABLE_SIZE / 2));
  }

  protected get second(): Words {
    return this.#back;
  }

  close(): void {
    const address = this.#mapped;
    this.#mapped = undefined;
    if (address !== undefined) memory().munmap(address, BigInt(TABLE_SIZE));
  }
}

class TargetWords extends MappedWords implements TargetDecisions {
  back(): OfferDecisions {
    return this.second;
  }
}

class SourceWords extends MappedWords implements SourceDecisions {
  readonly means = DecisionMeans.WORDS;
  readonly descriptor: bigint;

  private constructor(descriptor: bigint) {
    super(map(descriptor));
    this.descriptor = descriptor;
  }

  static make(): SourceWords {
    const fd = memory().memfd_create(nulTerminated("winsock-handoff"), MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd === -1) throw lastUnixError("make a table of decisions", "memfd_create");
    const descriptor = BigInt(fd);
    try {
      const sized = memory().ftruncate(descriptor, BigInt(TABLE_SIZE));
      if (sized === -1) throw lastUnixError("make a table of decisions", "ftruncate");
      const sealed = fcntl(descriptor, F_ADD_SEALS, SEALS);
      if (sealed === -1) throw lastUnixError("seal a table of decisions", "fcntl");
      return new SourceWords(descriptor);
    } catch (error) {
      libc().close(descriptor);
      throw error;
    }
  }

  get back(): TakeDecisions {
    return this.second;
  }

  override close(): void {
    super.close();
    libc().close(this.descriptor);
  }
}

/** Names in a directory: the first process that makes the name of a slot has decided it. */
class Names implements OfferDecisions, TakeDecisions {
  /**
   * @param descriptor The directory.
   * @param first The name of the first slot.
   */
  constructor(readonly descriptor: bigint, readonly first: number = 0) {}

  remember(): void {}

  decide(slot: number): boolean {
    return names().mkdirat(this.descriptor, this.#name(slot), READABLE_BY_OWNER) === 0;
  }

  open(slot: number): bigint {
    if (this.unlink(slot)) return 0n;
    const code = errno();
    if (isErrno(code, "ENOENT")) return 0n;
    throw unixError(code, `open decision ${slot}`, "unlinkat");
  }

  protected unlink(slot: number): boolean {
    return names().unlinkat(this.descriptor, this.#name(slot), unixSystem().AT_REMOVEDIR) === 0;
  }

  #name(slot: number): Uint8Array<ArrayBuffer> {
    return nulTerminated(String(this.first + slot));
  }
}

/** Both tables of names, whose directory this object closes. */
class TargetNames extends Names implements TargetDecisions {
  back(): OfferDecisions {
    return new Names(this.descriptor, DECISION_SLOTS);
  }

  close(): void {
    libc().close(this.descriptor);
  }
}

class SourceNames extends Names implements SourceDecisions {
  readonly means = DecisionMeans.NAMES;
  readonly back: TakeDecisions;
  readonly #directory: PrivateDirectory;
  readonly #remove = () => this.#directory.remove();

  constructor() {
    const directory = makePrivateDirectory();
    const fd = names().open(nulTerminated(directory.path), 0);
    if (fd === -1) {
      const error = lastUnixError("open a table of decisions", "open");
      directory.remove();
      throw error;
    }
    super(BigInt(fd));
    this.back = new Names(this.descriptor, DECISION_SLOTS);
    closeOnExec(this.descriptor);
    directory.admit();
    this.#directory = directory;
    addEventListener("unload", this.#remove);
  }

  /** Closes the directory. Anything that a target has left in it stays there. */
  close(): void {
    for (let slot = 0; slot < ALL_SLOTS; slot++) this.unlink(slot);
    libc().close(this.descriptor);
    this.#remove();
    removeEventListener("unload", this.#remove);
  }
}

/** Checks the seals of a memory file. If the file could shrink, the next access would kill this process. */
function checkSealed(descriptor: bigint): void {
  const seals = fcntl(descriptor, F_GET_SEALS);
  const size = memory().lseek(descriptor, 0n, SEEK_END);
  if (seals === -1 || (seals & SEALS) !== SEALS || Number(size) !== TABLE_SIZE) {
    throw new RangeError(`Cannot open a table of decisions: descriptor ${descriptor} is not one`);
  }
}

function map(descriptor: bigint): bigint {
  const address = memory().mmap(0n, BigInt(TABLE_SIZE), PROT_READ_WRITE, MAP_SHARED, descriptor, 0n);
  if (address === MAP_FAILED) throw lastUnixError("map a table of decisions", "mmap");
  return address;
}

function unsupported(): WinsockError {
  return new WinsockError(WSA_ERRORS.WSAEOPNOTSUPP, {
    operation: "open a table of decisions",
    functionName: "pthread_spin_trylock",
    detail: "the libc of this process does not export it, but that of the source does",
  });
}
