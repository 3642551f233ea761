/**
 * A directory for a local socket that not everybody is to connect to. Through libc, so that it needs no write permission.
 *
 * @module
 */
import { lastUnixError } from "./errno.ts";
import { libcFunctions } from "./libc.ts";

/** `rwx--x--x`: others can use what they know the name of, and cannot list what there is. */
const SEARCHABLE = 0o711;
/** `rw-rw-rw-`: connecting to a local socket is writing to its file. */
const CONNECTABLE = 0o666;

const functions = libcFunctions({
  /** `char *mkdtemp(char *template)` */
  mkdtemp: { parameters: ["buffer"], result: "usize" },
  /** `int chmod(const char *path, mode_t mode)` */
  chmod: { parameters: ["buffer", "u32"], result: "i32" },
  /** `uid_t geteuid(void)` */
  geteuid: { parameters: [], result: "u32" },
  /** `int unlink(const char *path)` */
  unlink: { parameters: ["buffer"], result: "i32" },
  /** `int rmdir(const char *path)` */
  rmdir: { parameters: ["buffer"], result: "i32" },
});

/** A new directory that only this user may enter (mode 0700). */
export interface PrivateDirectory {
  readonly path: string;
  /**
   * Lets processes of other users connect to the socket at `file`, if this is root: nobody else can have started any. They
   * must know its name.
   */
  admit(file: string): void;
  /** Removes it, and the file in it if there is one. */
  remove(file: string): void;
}

/**
 * Makes a directory whose name ends in six letters nobody else has chosen (mkdtemp(3)).
 *
 * @param prefix What its path begins with.
 * @throws {WinsockError} If the system refuses.
 */
export function makePrivateDirectory(prefix: string): PrivateDirectory {
  const template = nulTerminated(`${prefix}XXXXXX`);
  const made = functions().mkdtemp(template);
  if (made === 0n) throw lastUnixError(`make the directory ${prefix}XXXXXX`, "mkdtemp");
  const path = new TextDecoder().decode(template.subarray(0, -1));
  return {
    path,
    admit(file) {
      if (functions().geteuid() !== 0) return;
      for (const [name, mode] of [[path, SEARCHABLE], [file, CONNECTABLE]] as const) {
        const result = functions().chmod(nulTerminated(name), mode);
        if (result === -1) throw lastUnixError(`let others use ${name}`, "chmod");
      }
    },
    remove(file) {
      functions().unlink(nulTerminated(file));
      functions().rmdir(nulTerminated(path));
    },
  };
}

function nulTerminated(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
