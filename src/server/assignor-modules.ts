import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { builtInAssignors } from '../coordinator/assignors/built-in.ts';
import type { PluggableAssignor } from '../coordinator/assignors/pluggable.ts';
import { nameViolation } from '../limits/names.ts';

/** A module of `--assignor-modules` that cannot be used, in one line that names it. */
class AssignorModuleError extends Error {
  override readonly name = 'AssignorModuleError';
}

/**
 * Loads the operator's assignors; docs/assignors.md describes the modules. Paths are relative to
 * the working directory.
 *
 * @throws AssignorModuleError
 */
export async function loadAssignorModules(
  paths: readonly string[],
  setting = '--assignor-modules',
): Promise<PluggableAssignor[]> {
  try {
    return await loadAll(paths);
  } catch (error) {
    if (!(error instanceof AssignorModuleError)) throw error;
    throw new AssignorModuleError(`${setting}: ${error.message}`, { cause: error.cause });
  }
}

async function loadAll(paths: readonly string[]): Promise<PluggableAssignor[]> {
  const taken = new Set(builtInAssignors.keys());
  const loaded: PluggableAssignor[] = [];
  // One after the other, so that of two modules with the same name always the same one is rejected.
  for (const path of paths) {
    const assignor = await load(path);
    if (taken.has(assignor.name)) throw wrong(path, `its name "${assignor.name}" is taken`);
    taken.add(assignor.name);
    loaded.push(assignor);
  }
  return loaded;
}

async function load(path: string): Promise<PluggableAssignor> {
  const { name, assign } = await exportsOf(path);
  if (typeof name !== 'string') throw wrong(path, 'it exports no name, which is a string');
  const violation = nameViolation(name);
  if (violation !== null) throw wrong(path, `its name ${violation}`);
  if (typeof assign !== 'function') throw wrong(path, 'it exports no assign, which is a function');
  if (Object.prototype.toString.call(assign) !== '[object Function]') {
    throw wrong(path, 'its assign must be an ordinary function, neither async nor a generator');
  }
  return { name, assign: assign as PluggableAssignor['assign'] };
}

async function exportsOf(path: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return (await import(pathToFileURL(resolve(path)).href)) as Record<string, unknown>;
  } catch (cause) {
    const [line = ''] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
    throw wrong(path, `it cannot be loaded: ${line}`, cause);
  }
}

function wrong(path: string, what: string, cause?: unknown): AssignorModuleError {
  return new AssignorModuleError(`${path}: ${what}`, { cause });
}
