# What the scripts share. Sourced by bash, never run.

WHEEL_VERSION=0.6.0
WHEEL_SHA256_X86_64=620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d
NPM_VERSION=17.10.0-beta.17
NPM_SHA256_X86_64=5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b

die() {
  echo "error: $*" >&2
  exit 1
}

# Runs a command as root: at once, or through sudo for an ordinary user.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root or sudo: $*"
  fi
}

# Prints the program folder of the newest supported PostgreSQL of the distribution, or nothing.
newest_debian_postgres() {
  local major
  for major in 18 17 16 15; do
    if [ -x "/usr/lib/postgresql/$major/bin/postgres" ]; then
      echo "/usr/lib/postgresql/$major/bin"
      return
    fi
  done
}

# Prints where PostgreSQL 16, 17 and 18 of the tests lie (folders 16, 17 and 18).
wheel_dir() {
  if [ -n "${ZENITH_TEST_PG:-}" ]; then
    echo "$ZENITH_TEST_PG"
  elif [ "$(id -u)" = 0 ]; then
    echo /var/cache/zenith/pgserver-$WHEEL_VERSION
  else
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/zenith/pgserver-$WHEEL_VERSION"
  fi
}
