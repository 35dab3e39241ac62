import { type Command, HELP, UsageError } from "../command.ts";

const SHELLS = { bash, zsh, fish } as const;

/** Prints what a shell needs to complete command lines, made from the table of commands. */
export function completion(commands: () => readonly Command[]): Command {
  return {
    name: "completion",
    summary: "Print the completion script of a shell",
    usage: "bash|zsh|fish",
    options: {},
    examples: [
      'eval "$(drtune completion bash)"',
      "drtune completion zsh > ~/.zfunc/_drtune",
      "drtune completion fish > ~/.config/fish/completions/drtune.fish",
    ],
    run(args) {
      const [shell, ...more] = args.positionals;
      if (more.length > 0) throw new UsageError(`Unexpected "${more[0]}"`);
      if (shell !== "bash" && shell !== "zsh" && shell !== "fish") {
        throw new UsageError(`Shell is ${shell ?? "missing"}, expected bash, zsh or fish`);
      }
      console.log(SHELLS[shell](commands()));
      return Promise.resolve(0);
    },
  };
}

const optionsOf = ({ options }: Command) => Object.entries({ ...options, help: HELP });

/** Options whose value is a path. */
const TAKES_PATH = /^(?:FILE|DIR|PATH|FOLDER)$/;

function bash(commands: readonly Command[]): string {
  const cases = commands.map((command) => {
    const words = optionsOf(command).map(([name]) => `--${name}`);
    const positional = command.name === "completion" ? " bash zsh fish" : "";
    return `    ${command.name}) words="${words.join(" ")}${positional}" ;;`;
  });
  return [
    "# bash completion of drtune",
    "_drtune() {",
    '  local current="${COMP_WORDS[COMP_CWORD]}" words=""',
    '  if [ "$COMP_CWORD" -eq 1 ]; then',
    `    COMPREPLY=($(compgen -W "${commands.map((c) => c.name).join(" ")} --help" -- "$current"))`,
    "    return",
    "  fi",
    '  case "${COMP_WORDS[1]}" in',
    ...cases,
    "  esac",
    '  if [ "${current:0:1}" = "-" ] || [ "${COMP_WORDS[1]}" = "completion" ]; then',
    '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
    "  else",
    '    COMPREPLY=($(compgen -f -- "$current"))',
    "  fi",
    "}",
    "complete -o filenames -F _drtune drtune",
  ].join("\n");
}

function zsh(commands: readonly Command[]): string {
  const quoted = (text: string) => text.replaceAll("'", "'\\''").replaceAll(/[[\]:]/g, "\\$&");
  const cases = commands.map((command) => {
    const options = optionsOf(command).map(([name, { value, multiple, help }]) => {
      const action = value === undefined
        ? ""
        : `:${value}:${TAKES_PATH.test(value) ? "_files" : ""}`;
      return `'${multiple ? "*" : ""}--${name}[${quoted(help)}]${action}'`;
    });
    const rest = command.name === "completion" ? "'1:shell:(bash zsh fish)'" : "'*:file:_files'";
    return `    ${command.name}) _arguments ${[...options, rest].join(" ")} ;;`;
  });
  return [
    "#compdef drtune",
    "_drtune() {",
    "  local -a commands",
    `  commands=(${commands.map((c) => `'${c.name}:${quoted(c.summary)}'`).join(" ")})`,
    "  if (( CURRENT == 2 )); then",
    "    _describe 'command' commands",
    "    return",
    "  fi",
    "  local command=$words[2]",
    "  shift words",
    "  (( CURRENT-- ))",
    "  case $command in",
    ...cases,
    "  esac",
    "}",
    // As a file in $fpath it is the function's body, else it is evaluated.
    'if [ "$funcstack[1]" = "_drtune" ]; then _drtune "$@"; else compdef _drtune drtune; fi',
  ].join("\n");
}

function fish(commands: readonly Command[]): string {
  const quoted = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = commands.flatMap((command) => {
    const only = `-n '__fish_seen_subcommand_from ${command.name}'`;
    return [
      `complete -c drtune -f -n __fish_use_subcommand -a ${command.name} -d ${
        quoted(command.summary)
      }`,
      ...(command.name === "completion"
        ? [`complete -c drtune -f ${only} -a 'bash zsh fish'`]
        : []),
      ...optionsOf(command).map(([name, { value, short, help }]) =>
        [
          `complete -c drtune ${only} -l ${name}`,
          short === undefined ? "" : ` -s ${short}`,
          value === undefined ? "" : TAKES_PATH.test(value) ? " -r -F" : " -x",
          ` -d ${quoted(help)}`,
        ].join("")
      ),
    ];
  });
  return ["# fish completion of drtune", ...lines].join("\n");
}
