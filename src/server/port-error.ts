import type { NameOf } from '../config/settings.ts';
import { present } from '../errors/present.ts';

/** The error of an edge that cannot listen, in one line that names the setting to change. */
export function portError(
  nameOf: NameOf,
  flag: 'grpc-port' | 'http-port',
  host: string,
  port: number,
  cause: unknown,
): Error {
  const said = cause instanceof Error ? cause.message : String(cause);
  // grpc-js has the system's error only inside a longer text, so both edges are read by their text.
  switch (/\bE[A-Z]{4,}\b/.exec(said)?.[0]) {
    case 'EADDRINUSE':
      return new Error(`${nameOf(flag)}: port ${port} of ${host} is in use by another program`, { cause });
    case 'EACCES':
      return new Error(`${nameOf(flag)}: this user may not listen on port ${port}`, { cause });
    default:
      return new Error(`${nameOf('host')}: cannot listen on ${host}: ${firstLine(said)}${hint(nameOf)}`, { cause });
  }
}

/** A hint for HOST, because conda and some shells set it without the operator's knowledge. */
function hint(nameOf: NameOf): string {
  return nameOf('host') === 'HOST' ? '; HOST is a variable of the environment, and --host wins over it' : '';
}

function firstLine(text: string): string {
  return present(text.split('\n', 1)[0], 'a text has a first line');
}
