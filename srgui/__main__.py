from srgui.cli import main

main()
