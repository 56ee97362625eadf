/** The logger of the embedded PostgreSQL; pino's loggers fit. */
export interface EmbeddedLog {
  info(message: string): void;
  warn(message: string): void;
}
