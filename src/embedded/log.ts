/** Where the embedded PostgreSQL says what happens; pino's loggers fit. */
export interface EmbeddedLog {
  info(message: string): void;
  warn(message: string): void;
}
