/** Why an edge cannot listen, in one line for the person at the terminal that names the setting to change. */
export function portError(flag: 'grpc-port' | 'http-port', host: string, port: number, cause: unknown): Error {
  const said = cause instanceof Error ? cause.message : String(cause);
  // grpc-js tells the system's error in a longer text only, so both edges are read by their text.
  switch (/\bE[A-Z]{4,}\b/.exec(said)?.[0]) {
    case 'EADDRINUSE':
      return new Error(`--${flag}: port ${port} of ${host} is in use by another program`, { cause });
    case 'EACCES':
      return new Error(`--${flag}: this user may not listen on port ${port}`, { cause });
    default:
      return new Error(`--host: cannot listen on ${host}: ${firstLine(said)}`, { cause });
  }
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0]!;
}
