/**
 * A directory for a local socket that not everybody is to connect to. Through libc, so that it needs no write permission.
 *
 * @module
 */
import { lastUnixError } from "./errno.ts";
import type { WinsockError } from "../winsock_error.ts";
import { libcFunctions } from "./libc.ts";

/**
 * Where such directories are made: in the first of these that can be written. Not in the user's own directory for such
 * files, whose path may leave no room for a name, and may be in the environment.
 */
const PARENTS = ["/tmp", "/dev/shm", "/var/tmp"];
const NAME = "winsock-handoff-";
const FILE_PATH = new RegExp(`^(?:${PARENTS.join("|")})/${NAME}\\w{6}/[\\w-]+$`);

/** `rwx--x--x`: others can use what they know the name of, and cannot list what there is. */
const SEARCHABLE = 0o711;
/** `rwx-wx-wx`: others can also make names. */
const WRITABLE = 0o733;
/** `rw-rw-rw-`: connecting to a local socket is writing to its file. */
const CONNECTABLE = 0o666;
/** `rw-------` */
const OWNERS = 0o600;
const SAME_GROUP = -1;

const functions = libcFunctions({
  /** `char *mkdtemp(char *template)` */
  mkdtemp: { parameters: ["buffer"], result: "usize" },
  /** `int chmod(const char *path, mode_t mode)` */
  chmod: { parameters: ["buffer", "u32"], result: "i32" },
  /** `int chown(const char *path, uid_t owner, gid_t group)` */
  chown: { parameters: ["buffer", "u32", "i32"], result: "i32" },
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
   * Lets processes of other users use what is in it, if this is root: no other user can have started any. They must know
   * its name, or have a descriptor of it.
   *
   * @param file A socket in it that they may connect to; without one, they may make names in the directory.
   * @param user Whose processes may connect, where that is known; by default everybody's.
   */
  admit(file?: string, user?: number): void;
  /** Removes it, and the file in it if one is named. */
  remove(file?: string): void;
}

/**
 * Makes a directory whose name ends in six letters nobody else has chosen (mkdtemp(3)).
 *
 * @throws {WinsockError} If there is nowhere to make one.
 */
export function makePrivateDirectory(): PrivateDirectory {
  const errors: WinsockError[] = [];
  for (const parent of PARENTS) {
    const template = nulTerminated(`${parent}/${NAME}XXXXXX`);
    const made = functions().mkdtemp(template);
    if (made !== 0n) return privateDirectory(new TextDecoder().decode(template.subarray(0, -1)));
    errors.push(lastUnixError(`make a directory in ${parent}`, "mkdtemp"));
  }
  throw errors[0]!;
}

/** Whether a path can be that of a file in such a directory, on this system or another. */
export function isPrivatePath(path: string): boolean {
  return FILE_PATH.test(path);
}

function privateDirectory(path: string): PrivateDirectory {
  return {
    path,
    admit(file, user) {
      if (functions().geteuid() !== 0 || user === 0) return;
      change(path, file === undefined ? WRITABLE : SEARCHABLE);
      if (file === undefined) return;
      const given = user !== undefined && functions().chown(nulTerminated(file), user, SAME_GROUP) === 0;
      change(file, given ? OWNERS : CONNECTABLE);
    },
    remove(file) {
      if (file !== undefined) functions().unlink(nulTerminated(file));
      functions().rmdir(nulTerminated(path));
    },
  };
}

function change(path: string, mode: number): void {
  const result = functions().chmod(nulTerminated(path), mode);
  if (result === -1) throw lastUnixError(`let others use ${path}`, "chmod");
}

/** A text as C takes it: UTF-8 with a NUL behind it. */
export function nulTerminated(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
