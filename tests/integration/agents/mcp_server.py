"""A real MCP server on standard input and output; every call is appended to the ledger named on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("numbers")


@server.tool()
def double(number: int) -> str:
    """Double a number."""
    with Path(sys.argv[1]).open("a") as ledger:
        ledger.write(f"double {number}\n")
    return f"{2 * number}"


if __name__ == "__main__":
    server.run("stdio")
