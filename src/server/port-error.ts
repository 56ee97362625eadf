import type { NameOf } from '../config/settings.ts';

/**
 * Why an edge cannot listen, in one line for the person at the terminal that names the setting to
 * change.
 */
export function portError(
  nameOf: NameOf,
  flag: 'grpc-port' | 'http-port',
  host: string,
  port: number,
  cause: unknown,
): Error {
  const said = cause instanceof Error ? cause.message : String(cause);
  // grpc-js tells the system's error in a longer text only, so both edges are read by their text.
  switch (/\bE[A-Z]{4,}\b/.exec(said)?.[0]) {
    case 'EADDRINUSE':
      return new Error(`${nameOf(flag)}: port ${port} of ${host} is in use by another program`, { cause });
    case 'EACCES':
      return new Error(`${nameOf(flag)}: this user may not listen on port ${port}`, { cause });
    default:
      return new Error(`${nameOf('host')}: cannot listen on ${host}: ${firstLine(said)}${hint(nameOf)}`, { cause });
  }
}

/**
 * Conda and some shells set HOST for themselves, and nobody remembers a variable that nobody has
 * set.
 */
function hint(nameOf: NameOf): string {
  return nameOf('host') === 'HOST' ? '; HOST is a variable of the environment, and --host wins over it' : '';
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0]!;
}
